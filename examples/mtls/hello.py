import kore


def hello(req: kore.http_request) -> None:
    """Greet whoever the certificate names."""
    subject = (req.connection.x509dict or {}).get("subject", {})
    req.response(200, f"Hello, {subject.get('commonName', 'stranger')}!\n")
