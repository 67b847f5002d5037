"""The gateway under measurement: a site with the targets as its assets, and people enough that nobody waits for a code."""

import http.client
import json
import pathlib
import re
import signal
import ssl
import subprocess
import time
import urllib.parse

import proc
import rig
from desktops import Target, Way

# A person has a fresh code every 30 s, and each log-in takes one. Each asks from an address of their own.
CROWD = {f"vendor-{number}": f"127.0.1.{number + 1}" for number in range(20)}
# What the gateway lets one address try: so much at once, then one log-in in so many seconds. All clients are at one address.
AT_ONCE, SECONDS_EACH = 25, 4.2


class Gateway:
    """`serve`, its web interface, and who may connect through it."""

    def __init__(self, binary: str, folder: pathlib.Path, targets: list[Target]):
        self.binary, self.folder = binary, folder
        with rig.demo(binary, folder) as told:
            self.config = pathlib.Path(told["config"])
            self.people = told["users"]
            self._describe(targets)
        ports = [rig.free_port() for _ in range(3)]
        rig.listen_on(self.config, *ports)
        _, self.web, self.rdp = ports
        self._set("public_url", f'"https://localhost:{self.web}/"')
        self._set("min_free_bytes", "268435456")
        self.trusted = ssl.create_default_context(cafile=self.config.parent / "web_ca.pem")
        self.full_at = 0.0
        self.process = rig.serve(binary, folder, self.config, self.rdp)
        try:
            self.tokens = {name: self._api_token(name) for name in CROWD}
        except BaseException:
            self.close()
            raise

    def cli(self, *arguments: str, given: str = "") -> str:
        return rig.cofferdam(self.binary, self.config, *arguments, proof=given)

    def _set(self, key: str, value: str) -> None:
        text, found = re.subn(rf"(?m)^{key} = .*$", f"{key} = {value}", self.config.read_text(), count=1)
        if found != 1:
            raise RuntimeError(f"{self.config}: {key} does not stand there")
        self.config.write_text(text)

    def _describe(self, targets: list[Target]) -> None:
        site = rig.with_settings(self.cli("export"), idle_seconds=86400)
        for name in CROWD:
            site += f'\n[[users]]\nname = "{name}"\norganisation = "acme-pumps"\nduties = ["vendor"]\n'
        for target in targets:
            site += (
                f'\n[[assets]]\nname = "{target.name}"\nzone = "cell-1"\naddress = "127.0.0.1"\n'
                f'[[assets.endpoints]]\nprotocol = "rdp"\nport = 3389\ndial_port = {target.port}\n'
                f'[assets.rdp]\npublic_keys = ["{target.pin()}"]\nsecurity = "{target.security}"\ngraphics = "{target.graphics}"\n'
                f'\n[[accounts]]\nasset = "{target.name}"\nlogin = "{target.login}"\ncredential = "password"\ndefault = true\n'
            )
        file = self.folder / "site.toml"
        file.write_text(site)
        self.cli("apply", "--yes", str(file))
        accounts = [f"{target.login}@{target.name}" for target in targets]
        for account, target in zip(accounts, targets):
            self.cli("account", "set-secret", account, "--password-stdin", given=f"{target.password}\n")
        for name in CROWD:
            self.cli("user", "set-password", name, "--password-stdin", given=f"password of {name}\n")
            factor = json.loads(self.cli("user", "enrol-totp", name, "--json"))["totp_secret"]
            self.people[name] = {"password": f"password of {name}", "totp_secret": factor}
        rig.open_window(self.binary, self.config, self.folder, self.people, accounts, users=tuple(CROWD))

    def _code(self, name: str) -> str:
        return rig.proof_of(self.people, name, self.folder).splitlines()[1]

    def _ask(self, name: str, method: str, path: str, body: str = "", **headers: str) -> tuple[http.client.HTTPResponse, str]:
        connection = http.client.HTTPSConnection(
            "localhost", self.web, context=self.trusted, timeout=30, source_address=(CROWD[name], 0)
        )
        try:
            connection.request(method, path, body, {key.replace("_", "-"): value for key, value in headers.items()})
            answer = connection.getresponse()
            return answer, answer.read().decode()
        finally:
            connection.close()

    def _form(self, name: str, cookie: str, page: str, path: str, fields: dict) -> tuple[str, str]:
        """Fills in a form of a page as a browser does; answers the cookie from then on, and what was shown."""
        answer, text = self._ask(name, "GET", page, Cookie=cookie)
        cookie = new_cookie(answer) or cookie
        proof = re.search(r'name="form" value="([^"]+)"', text)
        if not proof:
            raise RuntimeError(f"{page}: {answer.status}, no form")
        body = urllib.parse.urlencode({"form": proof[1], **fields})
        answer, text = self._ask(
            name, "POST", path, body, Cookie=cookie, Sec_Fetch_Site="same-origin", Content_Type="application/x-www-form-urlencoded"
        )
        if answer.status >= 400:
            raise RuntimeError(f"{path}: {answer.status}: {' '.join(re.sub('<[^>]*>', ' ', text).split())[:400]}")
        return new_cookie(answer) or cookie, text

    def _api_token(self, name: str) -> str:
        known = self.people[name]["password"]
        proof = {"user": name, "password": known, "code": self._code(name)}
        cookie, _ = self._form(name, "", "/login", "/login", proof)
        wanted = {"name": "measurement", "days": "1", "scopes": "connect", "code": self._code(name), "challenge": "", "credential": ""}
        _, text = self._form(name, cookie, "/account", "/account/tokens/make", wanted)
        return re.search(r'aria-label="the new token"><code>([^<]+)<', text)[1]

    def _pass_for(self, target: Target) -> tuple[int, str, str]:
        """A token for one log-in, of whoever has been waiting for longest."""
        name, api_token = next(iter(self.tokens.items()))
        self.tokens[name] = self.tokens.pop(name)
        self._keep_pace()
        wanted = json.dumps({"asset": target.name, "login": target.login, "code": self._code(name)})
        answer, text = self._ask(
            name, "POST", "/api/v1/desktops", wanted, Authorization=f"Bearer {api_token}", Content_Type="application/json"
        )
        if answer.status != 200:
            raise RuntimeError(f"no token for {target.name}: {answer.status} {text}")
        given = json.loads(text)
        return self.rdp, given["user_name"], given["token"]

    def _keep_pace(self) -> None:
        """Waits until the gateway looks at another log-in from this address."""
        time.sleep(max(0.0, self.full_at - time.monotonic() - (AT_ONCE - 1) * SECONDS_EACH))
        self.full_at = max(self.full_at, time.monotonic()) + SECONDS_EACH

    def way(self) -> Way:
        return Way("cofferdam", self._pass_for)

    def cpu_seconds(self) -> float:
        """Of all its processes."""
        return proc.cpu_seconds(self.process.pid)

    def resident_kib(self) -> int:
        return proc.memory_kib(self.process.pid)

    def live_sessions(self) -> int:
        return sum(not row["state"].startswith("ended") for row in json.loads(self.cli("session", "list", "--json")))

    def last_recording(self) -> int:
        """Bytes of the recording of the session that began last, once it has ended."""
        rig.wait_until("the session to end", lambda: self.live_sessions() == 0, 20)
        last = max(row["id"] for row in json.loads(self.cli("session", "list", "--json")))
        files = [f for f in (self.config.parent / "recordings").rglob(f"*{last}*") if f.is_file()]
        return sum(f.stat().st_size for f in files)

    def close(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def new_cookie(answer: http.client.HTTPResponse) -> str:
    """The cookie that an answer sets and does not take back again."""
    given = [cookie.split(";")[0] for cookie in answer.headers.get_all("Set-Cookie", [])]
    return "; ".join(cookie for cookie in given if not cookie.endswith("="))
