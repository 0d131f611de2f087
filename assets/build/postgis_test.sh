#!/bin/sh
# A test of PostGIS as its run_test.pl runs one, called by pg_regress in the place of psql:
# postgis_test.sh DIRECTORY PSQL ARGUMENT ... reads the test from its input, in this directory, and
# leaves out or replaces what run_test.pl does not compare.
set -u
cd "$1" || exit 2
shift
FOUND=$(mktemp)
unset PGDATESTYLE PGTZ
# Tests of interrupts allow twenty times the time: other programs run at the same time.
PGOPTIONS='-c lc_messages=C -c client_min_messages=NOTICE -c extra_float_digits=0'
export PGOPTIONS="$PGOPTIONS -c test.executor_slow_factor=20"
"$@" -v ECHO=none -v VERBOSITY=terse -v tmpfile="'/tmp/copied'" -v regdir=/pgl/postgis/regress \
	-v top_builddir=/pgl/postgis -v schema=public. -tA -c 'SET search_path TO public,topology' -f - >"$FOUND" 2>&1
STATUS=$?
sed -e '/^[[:space:]]*$/d; s/Infinity/inf/g; s/Inf/inf/g; s/[eE]\([+-]\)0\{1,\}\([0-9]\)/e\1\2/g' \
	-e 's/Self-intersection .*/Self-intersection/; s/^ROLLBACK/COMMIT/' \
	-e 's/^psql.*\(NOTICE\|WARNING\|ERROR\):/\1:/' "$FOUND"
exit $STATUS
