"""A submission server for tests: aiosmtpd, which speaks SMTP, with a folder to
keep what it accepts. Prints its port, then one line for each message."""

import argparse
import asyncio
import os
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword


class Keep:
    def __init__(self, folder):
        self.folder, self.n = folder, 0

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address.startswith("refused"):
            return "550 5.1.1 <%s> No such user" % address
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server, session, envelope):
        self.n += 1
        path = os.path.join(self.folder, "%d-%d.eml" % (os.getpid(), self.n))
        with open(path + ".part", "wb") as f:
            f.write(b"X-Test-Recipient: " + ",".join(envelope.rcpt_tos).encode() + b"\r\n")
            f.write(b"X-Test-TLS: " + str(server.transport.get_extra_info("ssl_object") is not None).encode() + b"\r\n")
            f.write(b"X-Test-Login: " + str(bool(session.authenticated)).encode() + b"\r\n")
            f.write(envelope.original_content)
            f.flush()
            os.fsync(f.fileno())
        os.rename(path + ".part", path)
        print("kept", flush=True)
        return "250 2.0.0 Ok: queued as %d" % self.n


def main():
    p = argparse.ArgumentParser()
    p.add_argument("folder")
    p.add_argument("--cert")
    p.add_argument("--key")
    p.add_argument("--implicit", action="store_true")
    p.add_argument("--user")
    p.add_argument("--password")
    p.add_argument("--port", type=int, default=0)
    a = p.parse_args()
    context = None
    if a.cert:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(a.cert, a.key)
    handler = Keep(a.folder)

    def check(server, session, envelope, mechanism, data):
        ok = isinstance(data, LoginPassword) and data.login.decode() == a.user and data.password.decode() == a.password
        return AuthResult(success=ok, handled=False)

    def factory():
        options = {"enable_SMTPUTF8": True, "loop": loop}
        if a.user:
            options.update(authenticator=check, auth_required=True, auth_require_tls=not a.implicit)
        if context and not a.implicit:
            options.update(tls_context=context, require_starttls=True)
        return SMTP(handler, **options)

    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    server = loop.run_until_complete(
        loop.create_server(factory, "127.0.0.1", a.port, ssl=context if a.implicit else None)
    )
    print("port", server.sockets[0].getsockname()[1], flush=True)
    # The parent's end of stdin says when to go, however the parent ends.
    loop.run_in_executor(None, lambda: (sys.stdin.read(), os._exit(0)))
    loop.run_forever()


main()
