#!/bin/sh
# Asks `claude -p` and branches on why it stopped, by the exit code of `fsm classify`.
#
#   ask-claude.sh PROMPT [more arguments of claude]
#
# Prints the answer, as JSON where a schema was asked for (--json-schema). Exits with 0 if claude finished, else with the code of `fsm classify` (see its --help).
# TRIES: how often an error that may pass is tried in all (3). PAUSE: seconds before the second try, doubled after
# each (30).
set -u

if [ $# -eq 0 ]; then
    echo "usage: ask-claude.sh PROMPT [more arguments of claude]" >&2
    exit 2
fi

tries=${TRIES:-3}
pause=${PAUSE:-30}
record=$(mktemp) || exit 1
trap 'rm -f "$record"' EXIT
trap 'exit 130' INT TERM

prompt=$1
shift

# The answer of the last result. Claude writes it alone, in an array of all its lines, or one line after the other.
answer() {
    python3 - "$1" <<'PYTHON'
import json, sys

with open(sys.argv[1], encoding="utf-8") as record:
    text = record.read()
try:
    found = json.loads(text)
except ValueError:
    found = [json.loads(line) for line in text.splitlines() if line.strip()]
lines = found if isinstance(found, list) else [found]
result = [line for line in lines if isinstance(line, dict) and line.get("type") == "result"][-1]
answer = result.get("structured_output")
answer = result.get("result") if answer is None else json.dumps(answer)
if not isinstance(answer, str) or not answer.strip():
    sys.exit("claude gave no answer")
print(answer)
PYTHON
}

while :; do
    claude -p "$prompt" "$@" --output-format json >"$record"  # the last --output-format counts
    claude_exit=$?
    fsm classify "$record" >&2
    why=$?

    case $why in
    0)
        # What claude says of itself counts too: never call a run finished that ended with an error.
        if [ "$claude_exit" -ne 0 ]; then
            echo "claude said that it had finished and exited with $claude_exit" >&2
            exit "$claude_exit"
        fi
        answer "$record" || exit 16
        exit 0
        ;;
    20)
        tries=$((tries - 1))
        if [ "$tries" -le 0 ]; then
            echo "it did not pass: try again later" >&2
            exit 20
        fi
        echo "trying again in $pause s" >&2
        sleep "$pause"
        pause=$((pause * 2))
        ;;
    13)
        echo "claude refused: asking again would be refused again" >&2
        exit 13
        ;;
    11 | 17)
        echo "claude did not get to its end: give it a smaller task, or raise its limits" >&2
        exit "$why"
        ;;
    22)
        echo "somebody must look at the account before the next run" >&2
        exit 22
        ;;
    *)
        exit "$why"
        ;;
    esac
done
