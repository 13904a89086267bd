"""Creates a container in an Azure store, by a request that is signed with the account's key.

usage: create_container.py http://HOST:PORT ACCOUNT KEY CONTAINER

The store is an emulator's: the account is the first part of the path.
"""

import base64
import hashlib
import hmac
import sys
import urllib.request
from email.utils import formatdate


def main(endpoint, account, key, container):
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2023-11-03"}
    path = f"/{account}/{container}"
    # Eleven standard headers, all of them empty, lie between the method and ours.
    lines = ["PUT", *[""] * 11, *(f"{name}:{value}" for name, value in headers.items())]
    signed = "\n".join([*lines, f"/{account}{path}", "restype:container"])
    digest = hmac.digest(base64.b64decode(key), signed.encode(), hashlib.sha256)
    headers["Authorization"] = f"SharedKey {account}:{base64.b64encode(digest).decode()}"
    request = urllib.request.Request(f"{endpoint}{path}?restype=container", method="PUT", headers=headers)
    urllib.request.urlopen(request).close()


if __name__ == "__main__":
    main(*sys.argv[1:])
