#!/usr/bin/env bash
# Make or update the environment in the folder $1 (.venv, or .conda where conda makes it) from requirements.lock.
# It does nothing when the folder's stamp names this lock: `make` calls it before every target that needs Python.
set -euo pipefail
cd "$(dirname "$0")"
folder=${1:-.venv}
lock=requirements.lock
log=$folder/install.log
need_gb=10

stop() { printf '\n%s\n' "$*" >&2; exit 1; }

# The stamp: the lock's hash, and the place of the clone (a clone that was moved leaves dead paths in the folder).
stamp() {
    "$folder/bin/python" -c 'import hashlib, os, sys
print(hashlib.sha256(open(sys.argv[1], "rb").read()).hexdigest(), os.getcwd())' "$lock"
}

is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3 python}; do
        # Version managers put names on the PATH that fail when called, so each candidate is tried.
        if is_new_enough "$candidate"; then
            echo "$candidate"
            return
        fi
    done
    stop "Python 3.11 or newer is needed and was not found (python3 here: $(python3 -V 2>&1 | tail -n 1));" \
        "install it, or name one with \`make env PYTHON=/its/path\`, and run the same command again."
}

# A half-made folder may hold a link to the machine's own Python, into which nothing may be installed.
is_whole() {
    "$folder/bin/python" -c 'import os, sys, pip
sys.exit(not os.path.samefile(sys.prefix, sys.argv[1]))' "$folder" >/dev/null 2>&1
}

check_disk() {
    local free_kb
    free_kb=$(df -Pk . | awk 'NR == 2 {print $4}')
    if [ "$free_kb" -lt $((need_gb * 1024 * 1024)) ]; then
        stop "The environment needs $need_gb GB of disk and $((free_kb / 1024 / 1024)) GB are free here;" \
            "free some space and run the same command again."
    fi
}

make_venv() {
    local python
    python=$(find_python)
    "$python" -m venv "$folder" || stop "$python could not make a virtual environment in $folder" \
        "(on Debian and Ubuntu it needs the package python3-venv); install that and run the same command again."
}

# Show a count and the start of the long step; the log has all of it.
show_progress() {
    tee "$log" | awk '
        /^ *(Collecting|Processing) / {if (++n % 20 == 0) {print "  " n " packages found"; fflush()}}
        /Installing collected packages/ {print "  all are here; unpacking, the longest silent step"; fflush()}'
}

explain_failure() {
    local missing
    missing=$(sed -n 's/^ERROR: No matching distribution found for \([^ ]*\).*/\1/p' "$log" | head -n 1)
    if grep -q 'No space left on device' "$log"; then
        stop "The disk ran full while installing; free $need_gb GB here and in the temporary folder, and run again."
    elif grep -q 'connection broken by' "$log"; then  # pip then says that there is no such package
        stop "The package index cannot be reached (log: $log);" \
            "check the network and run the same command again (what was downloaded is kept)."
    elif [ -n "$missing" ]; then
        stop "No wheel of $missing can be had for this machine, Python or package index (log: $log); the lock serves" \
            "Linux on x86_64 and aarch64 and macOS on arm64, with Python 3.11 to 3.13: try \`make env PYTHON=python3.11\`."
    fi
    tail -n 5 "$log" >&2
    stop "The packages could not be installed: the last lines stand above, all of them in $log;" \
        "mend what they name and run the same command again (what was downloaded is kept)."
}

install() {
    echo "installing up to $(grep -c '==' "$lock") packages into $folder: 2 to 5 minutes, 6 GB (log: $log)"
    if [ "$(basename "$folder")" = .conda ]; then
        "$(command -v mamba || command -v conda)" env update --quiet --prefix "$folder" --file environment.yml 2>&1 |
            show_progress || explain_failure
    else
        "$folder/bin/python" -m pip install --disable-pip-version-check --progress-bar off -r "$lock" 2>&1 |
            show_progress || explain_failure
    fi
}

# What an editable install would write, without a build: notebooks opened by any editor find mglib.
link_package() {
    "$folder/bin/python" -c 'import os, pathlib, sysconfig
pathlib.Path(sysconfig.get_path("purelib"), "mglib.pth").write_text(os.getcwd() + "\n")'
}

main() {
    if [ -f "$folder/stamp" ] && [ "$(cat "$folder/stamp")" = "$(stamp)" ]; then
        return
    fi
    if ! is_whole; then  # none yet, or killed while it was made
        check_disk
        mkdir -p "$folder"
        [ "$(basename "$folder")" = .conda ] || make_venv
    elif ! is_new_enough "$folder/bin/python"; then
        stop "$folder holds $("$folder/bin/python" -V 2>&1), and 3.11 or newer is needed;" \
            "remove that folder and run the same command again."
    fi
    install
    link_package
    stamp > "$folder/stamp"
    echo "the environment is ready: $folder"
}

main
