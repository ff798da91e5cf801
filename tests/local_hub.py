"""A Hub of our own for tests: the endpoints that pushing and loading a repository need, in memory, on the loopback address.

Repositories are lists of commits, a commit a dict from path to content. Large and binary files go through Git LFS as on the
real Hub (`HF_HUB_DISABLE_XET=1`). Writing needs the token `hf_dummy` and a repository of `me`; `me/unlucky` breaks off at the
commit.
"""

import base64
import hashlib
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit


KINDS = {"model": "", "dataset": "datasets/", "space": "spaces/"}


class LocalHub:
    """Starts serving at once; `url` is the endpoint, `requests` the list of (method, path, status)."""

    def __init__(self):
        self.repositories, self.large_files, self.requests, self.lock = {}, {}, [], threading.RLock()
        self.sdks = {}  # of Spaces
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def unexpected_requests(self):
        """Requests that no pattern of the real Hub's interface covers."""
        return [
            (method, path)
            for method, path, _ in self.requests
            if not any(re.fullmatch(pattern, urlsplit(path).path) for pattern in [*(p for p, _ in ROUTES), *HARMLESS])
        ]

    def close(self):
        self.server.shutdown()
        self.server.server_close()

    def files(self, repo_id, kind="model"):
        """The files of a repository's newest commit."""
        return self.repositories[kind, repo_id][-1][1]

    def environment(self, home):
        """What a process must have in its environment, before it imports huggingface_hub, to talk to this Hub only."""
        return {
            "HF_ENDPOINT": self.url, "HF_TOKEN": "hf_dummy", "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "0", "HF_HUB_DISABLE_TELEMETRY": "1", "NO_PROXY": "127.0.0.1",
        }  # fmt: skip


def _is_large(path, size):
    return size > 100_000 or path.endswith((".safetensors", ".parquet"))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: LocalHub

    def log_message(self, *args):
        pass

    def answer(self, content=None, status=200, headers=(), length=None):
        body = content if isinstance(content, bytes) else json.dumps({} if content is None else content).encode()
        self.hub.requests.append((self.command, self.path, status))
        self.send_response(status)
        self.send_header("Content-Type", "application/octet-stream" if isinstance(content, bytes) else "application/json")
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def missing(self, code, commit=None):
        headers = {"X-Error-Code": code, "X-Error-Message": code, **({"X-Repo-Commit": commit} if commit else {})}
        self.answer({"error": code}, 404, headers)

    def refuse(self, status, message):
        self.answer({"error": message}, status, {"X-Error-Message": message})

    def read_body(self):
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def handle_request(self):
        parts = urlsplit(self.path)
        path, query = unquote(parts.path), parse_qs(parts.query)
        body = self.read_body() if self.command in ("POST", "PUT", "DELETE") else b""
        if self.command == "POST" and path.startswith("/api/") and self.headers.get("Authorization") != "Bearer hf_dummy":
            return self.refuse(401, "Invalid credentials in Authorization header")
        for pattern, method in ROUTES:
            if match := re.fullmatch(pattern, path):
                with self.hub.lock:
                    return getattr(self, method)(match, query, body)
        self.missing("EntryNotFound")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_request

    # -------------------------------------------------------------------------- endpoints

    def who_am_i(self, match, query, body):
        self.answer({"name": "me", "type": "user", "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def validate_yaml(self, match, query, body):
        self.answer({"errors": [], "warnings": []})

    def create(self, match, query, body):
        wanted = json.loads(body)
        kind, repo_id = wanted.get("type") or "model", f"{wanted.get('organization') or 'me'}/{wanted['name']}"
        url = f"{self.hub.url}/{KINDS[kind]}{repo_id}"
        if not repo_id.startswith("me/"):
            return self.refuse(403, f"You don't have the rights to create a {kind} under this namespace")
        if (kind, repo_id) in self.hub.repositories:
            return self.answer({"error": "exists", "url": url}, 409)
        self.hub.sdks[repo_id] = wanted.get("sdk")
        self.hub.repositories[kind, repo_id] = [(hashlib.sha1(repo_id.encode()).hexdigest(), {})]
        self.answer({"url": url, "id": repo_id, "name": repo_id})

    def preupload(self, match, query, body):
        files = [
            {"path": f["path"], "uploadMode": "lfs" if _is_large(f["path"], f["size"]) else "regular", "shouldIgnore": False}
            for f in json.loads(body)["files"]
        ]
        self.answer({"files": files})

    def large_file_batch(self, match, query, body):
        objects = []
        for wanted in json.loads(body)["objects"]:
            upload = {"actions": {"upload": {"href": f"{self.hub.url}/_large/{wanted['oid']}"}}}
            objects.append(
                {"oid": wanted["oid"], "size": wanted["size"], **({} if wanted["oid"] in self.hub.large_files else upload)}
            )
        self.answer({"transfer": "basic", "objects": objects})

    def large_file(self, match, query, body):
        self.hub.large_files[match[1]] = body
        self.answer()

    def commit(self, match, query, body):
        history = self.hub.repositories.get((match[1], match[2]))
        if history is None:
            return self.missing("RepoNotFound")
        if match[2] == "me/unlucky":
            return self.refuse(500, "The server broke")
        files = dict(history[-1][1])
        for line in body.splitlines():
            operation = json.loads(line)
            kind, value = operation["key"], operation["value"]
            if kind == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif kind == "lfsFile":
                files[value["path"]] = self.hub.large_files[value["oid"]]
            elif kind == "deletedFile":
                files.pop(value["path"], None)
        sha = hashlib.sha1(body + str(len(history)).encode()).hexdigest()
        history.append((sha, files))
        url = f"{self.hub.url}/{KINDS[match[1]]}{match[2]}/commit/{sha}"
        self.answer({"success": True, "commitOid": sha, "commitUrl": url, "hookOutput": ""})

    def resolve(self, match, query, body):
        history = self.hub.repositories.get((match[1].rstrip("s/") if match[1] else "model", match[2]))
        if history is None:
            return self.missing("RepoNotFound")
        found = next(((sha, files) for sha, files in reversed(history) if match[3] in ("main", sha)), None)
        if found is None:
            return self.missing("RevisionNotFound")
        sha, files = found
        if match[4] not in files:
            return self.missing("EntryNotFound", sha)
        content = files[match[4]]
        etag = hashlib.sha256(content).hexdigest()
        headers = {"X-Repo-Commit": sha, "ETag": f'"{etag}"', "Accept-Ranges": "bytes"}
        if _is_large(match[4], len(content)):
            headers |= {"X-Linked-Etag": f'"{etag}"', "X-Linked-Size": str(len(content))}
        if wanted := re.match(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            first, last = int(wanted[1]), int(wanted[2] or len(content) - 1)
            headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
            return self.answer(content[first : last + 1], 206, headers)
        self.answer(content, headers=headers)

    def info(self, match, query, body):
        history = self.hub.repositories.get((match[1], match[2]))
        if history is None:
            return self.missing("RepoNotFound")
        kind, _, rest = (match[3] or "revision/main").partition("/")
        revision, _, folder = rest.partition("/")
        found = next(((sha, files) for sha, files in reversed(history) if revision in ("", "main", sha)), None)
        if found is None:
            return self.missing("RevisionNotFound")
        sha, files = found
        if kind == "tree":
            return self.tree(files, folder.strip("/"), query.get("recursive", ["false"])[0].lower() in ("true", "1"))
        if kind == "paths-info":
            wanted = json.loads(body)["paths"] if body.startswith(b"{") else parse_qs(body.decode()).get("paths", [])
            return self.answer([_entry(path, files[path]) for path in wanted if path in files])
        siblings = [{"rfilename": path, "size": len(content)} for path, content in sorted(files.items())]
        sdk = {"sdk": self.hub.sdks.get(match[2])} if match[1] == "space" else {}
        self.answer({"id": match[2], "modelId": match[2], "sha": sha, "private": False, "tags": [], "siblings": siblings, **sdk})

    def tree(self, files, folder, recursive):
        prefix = f"{folder}/" if folder else ""
        inside = {path[len(prefix) :]: content for path, content in files.items() if path.startswith(prefix)}
        if folder and not inside:
            return self.missing("EntryNotFound")
        folders = {"/".join(path.split("/")[:i]) for path in inside for i in range(1, path.count("/") + 1)}
        entries = [_entry(prefix + path, content) for path, content in sorted(inside.items()) if recursive or "/" not in path]
        entries += [
            {"type": "directory", "path": prefix + path, "size": 0, "oid": hashlib.sha1(path.encode()).hexdigest()}
            for path in sorted(folders)
            if recursive or "/" not in path
        ]
        self.answer(entries)


def _entry(path, content):
    entry = {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
    if _is_large(path, len(content)):
        entry["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
    return entry


ROUTES = [
    (r"/api/whoami-v2", "who_am_i"),
    (r"/api/validate-yaml", "validate_yaml"),
    (r"/api/repos/create", "create"),
    (r"/_large/([0-9a-f]{64})", "large_file"),
    (r"/(?:(?:dataset|space)s/)?[^/]+/[^/]+\.git/info/lfs/objects/batch", "large_file_batch"),
    (r"/api/(model|dataset|space)s/([^/]+/[^/]+)/preupload/[^/]+", "preupload"),
    (r"/api/(model|dataset|space)s/([^/]+/[^/]+)/commit/[^/]+", "commit"),
    (r"/api/(model|dataset|space)s/([^/]+/[^/]+)(?:/((?:revision|tree|paths-info)/.+))?", "info"),
    (r"/(datasets/|spaces/)?([^/]+/[^/]+)/resolve/([^/]+)/(.+)", "resolve"),
]
# What clients ask on the side and can do without.
HARMLESS = [r"/api/agent-harnesses", r"/api/(?:model|dataset|space)s/[^/]+/[^/]+/(?:refs|discussions)"]
