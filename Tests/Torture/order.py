"""Asserts the order of calls that makes an output safe: order.py TRACE OUTPUT, the trace as `strace -f -y` writes it."""
import os, re, sys

trace, output = sys.argv[1:]
folder, name = os.path.split(output)
temporary = re.compile(re.escape(f"{folder}/.{name}.") + r"[0-9a-z]+\.part")
calls = []
for line in open(trace):
    match = re.match(r"\d+ +(?:<\.\.\. )?(\w+)\((.*)", line)
    if match:
        calls.append(match.groups())
renames = [i for i, (call, words) in enumerate(calls)
           if call.startswith("rename") and f'"{output}"' in words and temporary.search(words)]
assert len(renames) == 1, renames
rename = renames[0]
written = set()
for call, words in calls[:rename]:
    path = re.search(r"<([^>]*)>", words)
    if call in ("pwrite64", "write") and path and temporary.match(path[1]):
        written.add(path[1])
    if call == "copy_file_range" and temporary.search(words):
        written.add(re.findall(r"<([^>]*)>", words)[1])
    assert not ("O_TRUNC" in words and f'"{output}"' in words), words
flushed = {re.search(r"<([^>]*)>", words)[1] for call, words in calls[:rename] if call == "fsync"}
assert written and written <= flushed, written - flushed
# Every folder that holds a new name, from the temporary on downwards.
for path in written:
    while temporary.match(os.path.dirname(path)):
        path = os.path.dirname(path)
        assert path in flushed, f"{path} is not flushed before the rename"
after = [re.search(r"<([^>]*)>", words)[1] for call, words in calls[rename:] if call == "fsync"]
assert folder in after, f"{folder} is not flushed after the rename: {after}"
