/*
 * Python 3.11 no longer shows what Kore 4.1 drives its coroutines with; the public function does the same.
 * Since 3.10 lengths of "y#" have to be announced as what they are: Py_ssize_t.
 */
#define PY_SSIZE_T_CLEAN
#include <Python.h>

static inline PyObject *
drive(PyObject *coro)
{
	PyObject *result;

	switch (PyIter_Send(coro, Py_None, &result)) {
	case PYGEN_NEXT:
		return (result);
	case PYGEN_RETURN:
		_PyGen_SetStopIterationValue(result);
		Py_DECREF(result);
		return (NULL);
	default:
		return (NULL);
	}
}
