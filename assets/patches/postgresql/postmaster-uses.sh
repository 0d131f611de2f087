#!/bin/sh
# Compares postmaster-uses.tsv with PostgreSQL's source in the current directory, unpacked and not
# yet patched: how often each file asks whether there is a postmaster. A new use in a minor release
# must not go unnoticed.
set -eu
TABLE=$(dirname "$0")/postmaster-uses.tsv
WORK=${1:?usage: postmaster-uses.sh SCRATCH-DIRECTORY}

grep -rowE 'IsUnderPostmaster|IsPostmasterEnvironment' --include='*.[chly]' . |
	sed 's,^\./,,; s,:.*,,' | sort | uniq -c | awk '{ print $2, $1 }' >"$WORK/postmaster-uses.found"
awk -F '\t' '!/^#/ && $4 ~ /^(client|initdb|own|none|assertion|absent)$/ && $5 != "" { uses[$1] += $3 }
	END { for (file in uses) print file, uses[file] }' "$TABLE" | sort >"$WORK/postmaster-uses.decided"
if ! diff "$WORK/postmaster-uses.decided" "$WORK/postmaster-uses.found" >&2; then
	echo "POSTMASTER-USES: the lines above differ between postmaster-uses.tsv (<) and the source (>):" \
		"decide each place that is new, and correct the table" >&2
	exit 1
fi
