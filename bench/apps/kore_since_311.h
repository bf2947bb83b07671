/*
 * Python 3.11 no longer shows what Kore 4.1 drives its coroutines with; the public function does the same.
 */
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
