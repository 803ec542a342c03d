"""Types are resolved by one thread at a time."""

import subprocess
import sys

import msgspec
import pytest

from vroom_api.contract.decoding import convert, decode

# msgspec alone ends this with a segmentation fault, mostly within the first hundred types.
MANY_AT_ONCE = """
import sys, threading
import msgspec
from vroom_api.contract.decoding import convert, decode

sys.setswitchinterval(1e-6)
wrong = []
for _ in range(400):
    inner = msgspec.defstruct("Inner", [(f"a{n}", int | None, None) for n in range(10)])
    outer = msgspec.defstruct("Outer", [(f"b{n}", dict[str, inner] | None, None) for n in range(10)])
    begin = threading.Barrier(4)

    def first_use(number):
        begin.wait()
        if number % 2:
            value = decode(b'{"b9": {"x": {"a9": 3}}}', outer)
        else:
            value = convert({"b9": {"x": {"a9": 3}}}, outer)
        if value.b9["x"].a9 != 3:
            wrong.append(value)

    threads = [threading.Thread(target=first_use, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
print(len(wrong))
"""


def test_threads_may_need_a_type_for_the_first_time_at_once() -> None:
    done = subprocess.run([sys.executable, "-c", MANY_AT_ONCE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


class Pair(msgspec.Struct):
    left: int
    right: str = ""


def test_what_is_of_another_type_is_refused() -> None:
    assert decode(b'{"left": 1}', Pair) == convert({"left": 1}, Pair) == Pair(1)
    assert decode("[1, 2]", tuple[int, ...]) == (1, 2)
    with pytest.raises(msgspec.ValidationError, match=r"Expected `int`, got `str` - at `\$\.left`"):
        decode(b'{"left": "1"}', Pair)
    with pytest.raises(msgspec.ValidationError, match=r"`right`|right"):
        convert({"left": 1, "right": 2}, Pair)
    with pytest.raises(msgspec.DecodeError):
        decode(b"{", Pair)
