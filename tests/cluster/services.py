"""Run a command beside a real one-node Slurm and a real PostgreSQL, started for it alone and stopped after it.

`python tests/cluster/services.py pytest tests/cluster`: both listen on the loopback interface alone and keep all they
write in a temporary folder; what is missing is installed where that is allowed (apt-get, as root). The command finds
`SLURM_CONF`, `GRAMLAB_SLURM=1` and `GRAMLAB_POSTGRES=postgresql://…`.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

PACKAGES = ("slurm-wlm", "munge", "postgresql")
SLOW = 300  # seconds for a step of the installation
DAEMONS = ("munged", "slurmctld", "slurmd", "postgres")
PLACES = [*os.environ.get("PATH", "").split(":"), "/usr/sbin", *map(str, Path("/usr/lib/postgresql").glob("*/bin"))]
SLURM = """\
ClusterName=gramlab
SlurmctldHost=localhost(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket,cred_expire=5
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmctldPort={controller}
SlurmdPort={node}
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
ReturnToService=2
KillWait=5
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
NodeName=localhost NodeAddr=127.0.0.1 CPUs=2 Boards=1 SocketsPerBoard=1 CoresPerSocket=2 ThreadsPerCore=1 State=UNKNOWN
PartitionName=main Nodes=localhost Default=YES MaxTime=INFINITE OverSubscribe=NO State=UP
"""


def main(command: Sequence[str]) -> int:
    """Exit code of the command; 0 with a line that says so where the services cannot be had."""
    if reason := missing():
        print(f"skipped: {reason}", flush=True)
        return 0
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda got, _: sys.exit(128 + got))
    with tempfile.TemporaryDirectory(prefix="gramlab-cluster-") as name, ExitStack() as running:
        folder = Path(name)
        folder.chmod(0o755)
        found = start_slurm(folder, running) | start_postgres(folder / "postgres", running)
        print(f"Slurm and PostgreSQL are up, logs in {folder}", flush=True)
        return subprocess.run(command, env=os.environ | found, check=False).returncode


def missing() -> str:
    """Why the services cannot be started, once what can be installed is; empty where they can."""
    if not (lacking := [name for name in DAEMONS if program(name) is None]):
        return ""
    wanted = f"no {', '.join(lacking)} here (Debian's {', '.join(PACKAGES)})"
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return f"{wanted}, and only root with apt-get may install them"
    print(f"installing {', '.join(PACKAGES)}", flush=True)
    said = ""
    for step in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
        quiet = {"env": os.environ | {"DEBIAN_FRONTEND": "noninteractive"}, "capture_output": True, "text": True}
        try:
            said = subprocess.run(["apt-get", *step], check=False, timeout=SLOW, **quiet).stderr
        except subprocess.TimeoutExpired:
            said = f"it took more than {SLOW} seconds"
    PLACES.extend(map(str, Path("/usr/lib/postgresql").glob("*/bin")))
    still = [name for name in DAEMONS if program(name) is None]
    return f"{wanted}, and apt-get could not install them: {' '.join(said.split())[-200:]}" if still else ""


def program(name: str) -> str | None:
    """Where a program lies; daemons are on no ordinary path."""
    return shutil.which(name, path=":".join(PLACES))


def start_slurm(folder: Path, running: ExitStack) -> dict[str, str]:
    """munged, slurmctld and slurmd, ready for jobs; what a command needs to reach them."""
    munge, user = folder / "munge", pwd.getpwuid(os.geteuid()).pw_name
    for part in (munge, folder / "state", folder / "spool"):
        part.mkdir(mode=0o755)
    (munge / "key").write_bytes(secrets.token_bytes(128))
    (munge / "key").chmod(0o600)
    places = {"socket": "socket", "key-file": "key", "log-file": "log", "pid-file": "pid", "seed-file": "seed"}
    options = [f"--{option}={munge / name}" for option, name in places.items()]
    start(["munged", "--foreground", *options], munge / "out", running, ready=(munge / "socket").exists)
    ports = {"controller": free_port(), "node": free_port()}
    (folder / "slurm.conf").write_text(SLURM.format(user=user, folder=folder, **ports))
    found = {"SLURM_CONF": str(folder / "slurm.conf"), "GRAMLAB_SLURM": "1"}
    os.environ |= found
    start(["slurmctld", "-D", "-i"], folder / "slurmctld.log", running, ready=lambda: told("scontrol", "ping"))
    start(["slurmd", "-D", "-N", "localhost"], folder / "slurmd.log", running, ready=lambda: "idle" in nodes())
    running.callback(subprocess.run, ["scancel", f"--user={user}"], check=False)
    return found


def start_postgres(folder: Path, running: ExitStack) -> dict[str, str]:
    """PostgreSQL with an empty database; it refuses to run as root, who lends it the user that Debian made for it."""
    folder.mkdir()
    user = pwd.getpwnam("postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name)
    os.chown(folder, user.pw_uid, user.pw_gid)
    own = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if os.geteuid() == 0 else {}
    made = [program("initdb"), "-D", folder / "data", "-U", "gramlab", "-A", "trust", "--no-sync"]
    subprocess.run(made, check=True, stdout=subprocess.DEVNULL, cwd=folder, **own)
    port = free_port()
    options = [f"-c{key}" for key in ("listen_addresses=127.0.0.1", f"unix_socket_directories={folder}", "fsync=off")]
    command = ["postgres", "-D", str(folder / "data"), "-p", str(port), *options]
    ready = [program("pg_isready") or "", "-q", "-h", "127.0.0.1", "-p", str(port)]
    start(
        command, folder.with_suffix(".log"), running, ready=lambda: told(*ready), stop=signal.SIGINT, cwd=folder, **own
    )
    return {"GRAMLAB_POSTGRES": f"postgresql://gramlab@127.0.0.1:{port}/postgres"}


def start(
    command: Sequence[str],
    log: Path,
    running: ExitStack,
    *,
    ready: Callable[[], bool],
    stop: int = signal.SIGTERM,
    **options: object,
) -> None:
    """Start a daemon in the foreground and wait until it is ready; it is stopped by its process id."""
    with log.open("wb") as out:
        arguments = [program(command[0]), *command[1:]]
        process = subprocess.Popen(arguments, stdout=out, stderr=out, start_new_session=True, **options)
    running.callback(ended, process, stop)
    until = time.monotonic() + 30
    while not ready():
        if process.poll() is not None or time.monotonic() > until:
            sys.exit(f"{command[0]} does not start:\n{log.read_text(errors='replace')[-2000:]}")
        time.sleep(0.1)


def ended(process: subprocess.Popen[bytes], number: int) -> None:
    """Stop a daemon: asked first, killed where it does not heed that."""
    process.send_signal(number)
    try:
        process.wait(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def nodes() -> str:
    """The state of the node, as Slurm tells it."""
    return subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, check=False).stdout


def told(*command: str) -> bool:
    """Whether a command succeeds."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def free_port() -> int:
    """A port of the loopback interface that nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
