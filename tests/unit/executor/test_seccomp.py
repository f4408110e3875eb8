import pytest

from octarm.executor.seccomp import filter_program


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_every_jump_of_the_filter_stays_inside_it(machine: str) -> None:
    program = filter_program(machine)

    assert program is not None
    steps = [program[at : at + 8] for at in range(0, len(program), 8)]
    assert len(program) % 8 == 0
    for number, step in enumerate(steps):
        assert number + 1 + max(step[2], step[3]) <= len(steps)
    assert steps[-1][0] == 6  # it ends with a verdict


def test_there_is_no_filter_for_a_machine_whose_calls_are_not_known() -> None:
    assert filter_program("riscv64") is None
