"""A system of fake services, to try the supervisor without the real ones.

Run as `python -m tests.support.fake_system DATA [--http-port N] [--stubborn ROLE] [--fail ROLE]`
it is `octarm up` over that system.
"""

import argparse
import sys
from pathlib import Path

from octarm.cli.stack.commands import run_in_foreground
from octarm.cli.stack.services import Role, System
from octarm.cli.stack.supervisor import Options

FAKE_SERVICE = Path(__file__).with_name("fake_service.py")
SERVICES = ("arm-registry", "orchestrator", "gateway")


def a_fake_role(name: str, *flags: str) -> Role:
    return Role(name, (sys.executable, str(FAKE_SERVICE), "--name", name, *flags))


def a_fake_system(*, stubborn: str = "", fail: str = "") -> System:
    flags = {stubborn: ("--stubborn",), fail: ("--fail", "the flux is out of alignment")}
    preparation = Role("prepare", (sys.executable, "-c", "pass"))
    services = tuple(a_fake_role(name, *flags.get(name, ())) for name in SERVICES)
    return System(preparations=(preparation,), services=services)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("data", type=Path)
    parser.add_argument("--http-port", type=int)
    parser.add_argument("--stubborn", default="")
    parser.add_argument("--fail", default="")
    given = parser.parse_args()
    options = Options(
        data=given.data,
        http_port=given.http_port,
        arms=(a_fake_role("echo"),),
        system=a_fake_system(stubborn=given.stubborn, fail=given.fail),
    )
    sys.exit(run_in_foreground(options))


if __name__ == "__main__":
    main()
