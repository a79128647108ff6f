"""A client of the distribution API (the distribution-spec's pull and push), on urllib.

Small on purpose: six requests, two ways to log in.  What a registry answers is as hostile as any stranger's.
"""

from __future__ import annotations

import base64
import http.client
import json
import re
import ssl
import urllib.error
import urllib.parse
import urllib.request

from pyoci.mydocker import auth, content, errors, records
from pyoci.mydocker.image import INDEXES, MANIFESTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import IO, Any

    from pyoci.mydocker.reference import Reference

_TIMEOUT = 60.0  # seconds without a byte
_HUB = "registry-1.docker.io"
_ERROR_LIMIT = 64 << 10  # bytes of an error's text
_CHALLENGE = re.compile(r'([a-zA-Z_]+)="([^"]*)"')


class NoManifest(errors.RegistryError):
    """The registry has no image of this name."""


class Denied(errors.RegistryError):
    """The registry wants a login, or another one."""


class Expired(Denied):
    """A 401, after a login: its token has had its time."""


class Unreachable(errors.RegistryError):
    """Nobody there, or the connection broke off."""


class _Redirects(urllib.request.HTTPRedirectHandler):
    """A blob may be on another host, which must not get the password, and must not be less secret."""

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        old, new = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        if old.scheme == "https" and new.scheme != "https":
            raise errors.RegistryError(f"{old.netloc} leads to {new.scheme}://{new.netloc}, which is not encrypted")
        found = super().redirect_request(req, fp, code, msg, headers, newurl)
        if found and new.netloc != old.netloc:
            found.remove_header("Authorization")
        return found


class Registry:
    """One repository of one registry.

    host: str, as in the reference
    """

    def __init__(self, reference: Reference, settings: auth.Settings | None = None, *, push: bool = False) -> None:
        self.host = reference.host
        self.path = reference.path
        self.settings = settings or auth.Settings()
        self.actions = "pull,push" if push else "pull"
        self.login = self.settings.login(self.host)
        self._authorization = ""
        self._base = f"https://{_HUB if self.host == 'docker.io' else self.host}"
        self._plain_checked = not self.settings.is_insecure(self.host)
        handlers: list[urllib.request.BaseHandler] = [
            urllib.request.HTTPSHandler(context=self.settings.tls(self.host)),
            _Redirects(),
        ]
        if auth.is_loopback(self.host):
            handlers.append(urllib.request.ProxyHandler({}))
        self._opener = urllib.request.build_opener(*handlers)

    # -- what a registry is asked -------------------------------------------------------------

    def check(self) -> None:
        """Whether it is there and takes the login.  Raises errors.RegistryError, Denied."""
        self._request("GET", "/v2/").close()

    def manifest(self, version: str) -> tuple[bytes, str]:
        """A manifest or index by tag or digest; gives its bytes and media type.  Raises NoManifest."""
        headers = {"Accept": ", ".join(MANIFESTS + INDEXES)}
        with self._request("GET", self._path(f"manifests/{version}"), headers) as answer:
            data = _whole(answer, content.DOCUMENT_LIMIT, f"the manifest of {self.path}")
            kind = answer.headers.get_content_type()
        if version.startswith("sha256:") and content.digest_of(data) != version:
            raise errors.Hostile(f"{self.host} gave another manifest than {version}")
        document = records.parse_object(data, f"the manifest of {self.path}")
        said = document.get("mediaType", kind)
        return data, said if isinstance(said, str) else kind

    def blob(self, digest: str, start: int = 0) -> tuple[http.client.HTTPResponse, int]:
        """A blob's bytes from `start` on, or from 0 when the registry cannot: gives the answer and where it begins."""
        headers = {"Range": f"bytes={start}-"} if start else {}
        answer = self._request("GET", self._path(f"blobs/{digest}"), headers)
        if start and answer.status == 206:
            said = re.match(r"bytes ([0-9]+)-", answer.headers.get("Content-Range", ""))
            if said and int(said[1]) == start:
                return answer, start
            answer.close()
            return self.blob(digest)
        return answer, 0

    def has_blob(self, digest: str) -> bool:
        """Whether the repository has it."""
        try:
            self._request("HEAD", self._path(f"blobs/{digest}")).close()
        except NoManifest:
            return False
        return True

    def upload(self, digest: str, size: int, body: IO[bytes]) -> None:
        """A blob that the repository has not; begun again when the token expires or the connection breaks off.

        A registry may close the connection in the middle of the blob in place of answering 401.
        """
        try:
            self._upload_once(digest, size, body)
        except (Expired, Unreachable):
            body.seek(0)
            self._upload_once(digest, size, body)

    def _upload_once(self, digest: str, size: int, body: IO[bytes]) -> None:
        with self._request("POST", self._path("blobs/uploads/"), {"Content-Length": "0"}, b"") as answer:
            location = urllib.parse.urljoin(answer.url, answer.headers.get("Location", ""))
        self._same_secrecy(location)
        joint = "&" if urllib.parse.urlsplit(location).query else "?"
        headers = {"Content-Length": str(size), "Content-Type": "application/octet-stream"}
        self._request("PUT", f"{location}{joint}digest={digest}", headers, body).close()

    def put_manifest(self, version: str, data: bytes, media_type: str) -> None:
        """The last step of a push."""
        self._request("PUT", self._path(f"manifests/{version}"), {"Content-Type": media_type}, data).close()

    # -- how it is asked ----------------------------------------------------------------------

    def _path(self, rest: str) -> str:
        return f"/v2/{self.path}/{rest}"

    def _same_secrecy(self, url: str) -> None:
        there = urllib.parse.urlsplit(url)
        if self._base.startswith("https:") and there.scheme != "https":
            raise errors.RegistryError(f"{self.host} leads to {url[:100]}, which is not encrypted")

    def _request(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str] = {},
        body: bytes | IO[bytes] | None = None,
    ) -> http.client.HTTPResponse:
        """One request, with a login where one is wanted.  path: below the registry, or a whole URL."""
        self._find_scheme()
        try:
            return self._once(method, path, headers, body)
        except urllib.error.HTTPError as error:
            if error.code != 401 or (body is not None and not isinstance(body, bytes)):
                raise self._words(error, path) from None
            challenges = error.headers.get_all("WWW-Authenticate") or []
            error.close()
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            raise self._unreachable(error) from None
        self._authorize(challenges)
        try:
            return self._once(method, path, headers, body)
        except urllib.error.HTTPError as error:
            raise self._words(error, path) from None
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            raise self._unreachable(error) from None

    def _once(
        self, method: str, path: str, headers: Mapping[str, str], body: bytes | IO[bytes] | None
    ) -> http.client.HTTPResponse:
        url = path if "://" in path else self._base + path
        request = urllib.request.Request(url, data=body, headers=dict(headers), method=method)
        request.add_header("User-Agent", "mydocker")
        if self._authorization and urllib.parse.urlsplit(url).netloc == urllib.parse.urlsplit(self._base).netloc:
            request.add_header("Authorization", self._authorization)
        found = self._opener.open(request, timeout=_TIMEOUT)
        assert isinstance(found, http.client.HTTPResponse)
        return found

    def _find_scheme(self) -> None:
        """Where plain HTTP is allowed it is tried, but only when nobody speaks TLS there."""
        if self._plain_checked:
            return
        self._plain_checked = True
        try:
            self._once("GET", "/v2/", {}, None).close()
        except urllib.error.HTTPError as error:
            error.close()
        except (urllib.error.URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            if isinstance(reason, ssl.SSLCertVerificationError):
                return  # it does speak TLS; the request will say what is wrong
            if isinstance(reason, ssl.SSLError | ConnectionResetError | http.client.RemoteDisconnected):
                self._base = "http" + self._base.removeprefix("https")

    def _authorize(self, challenges: list[str]) -> None:
        """Answer a 401: a token from where it says, or the password itself.  Raises Denied."""
        for challenge in challenges:
            scheme, _, rest = challenge.partition(" ")
            if scheme.lower() == "bearer":
                self._authorization = f"Bearer {self._token(dict(_CHALLENGE.findall(rest)))}"
                return
            if scheme.lower() == "basic" and self.login:
                self._authorization = _basic(self.login)
                return
        raise Denied(f"{self.host} wants a login", hint=f"mydocker login {self.host}")

    def _token(self, challenge: Mapping[str, str]) -> str:
        """The token protocol of the distribution project."""
        realm = challenge.get("realm", "")
        self._same_secrecy(realm)
        asked = {"service": challenge.get("service", ""), "scope": challenge.get("scope", "")}
        if not asked["scope"] and self.path:
            asked["scope"] = f"repository:{self.path}:{self.actions}"
        query = urllib.parse.urlencode({key: value for key, value in asked.items() if value})
        if urllib.parse.urlsplit(realm).scheme not in ("http", "https"):
            raise errors.RegistryError(f"{self.host} wants a token from {realm[:100]!r}")
        request = urllib.request.Request(f"{realm}{'&' if '?' in realm else '?'}{query}")
        if self.login:
            request.add_header("Authorization", _basic(self.login))
        try:
            with self._opener.open(request, timeout=_TIMEOUT) as answer:
                document = records.parse_object(_whole(answer, _ERROR_LIMIT, "the token"), f"the token of {self.host}")
        except urllib.error.HTTPError as error:
            raise self._words(error, realm) from None
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            raise self._unreachable(error) from None
        token = document.get("token") or document.get("access_token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise errors.RegistryError(f"{self.host} gave no token")
        return token

    # -- what went wrong ----------------------------------------------------------------------

    def _words(self, error: urllib.error.HTTPError, path: str) -> errors.Error:
        """An answer that is no success, as an error of ours."""
        with error:
            said = _said(error)
        if error.code in (401, 403):
            kind = Expired if error.code == 401 else Denied
            return kind(
                f"{self.host} denies access to {self.path or 'the registry'}{said}", hint=f"mydocker login {self.host}"
            )
        if error.code == 404:
            return NoManifest(f"{self.host} has no {self.path}/{path.rpartition('/')[2]}{said}")
        return errors.RegistryError(f"{self.host} answered {error.code}{said}")

    def _unreachable(self, error: Exception) -> errors.Error:
        reason = getattr(error, "reason", error)
        hint = ""
        if isinstance(reason, ssl.SSLCertVerificationError):
            hint = f"its authority belongs into {self.settings.directory}/certs.d/{self.host}/ca.crt"
        return Unreachable(f"cannot reach {self.host}: {reason}", hint=hint)


def _said(error: urllib.error.HTTPError) -> str:
    """What the registry itself wrote about it, made harmless."""
    try:
        found = json.loads(error.read(_ERROR_LIMIT))["errors"][0]
        text = str(found.get("message") or found.get("code"))
    except (ValueError, LookupError, TypeError, AttributeError, OSError, RecursionError, http.client.HTTPException):
        return ""
    return f": {''.join(character for character in text if character.isprintable())[:200]}"


def _basic(login: tuple[str, str]) -> str:
    return "Basic " + base64.b64encode(":".join(login).encode()).decode()


def _whole(answer: Any, limit: int, what: str) -> bytes:
    data: bytes = answer.read(limit + 1)
    if len(data) > limit:
        raise errors.Hostile(f"{what} is larger than {limit} bytes")
    return data
