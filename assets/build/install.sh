# What extensions install, shared by the scripts that build them.

# finish_install NAME: what was installed with DESTDIR=/pgl/work/install goes to /pgl/out/install,
# below the paths of the server.
finish_install() {
	# PGXS installs below the prefix it was given; users find everything below /usr.
	mkdir -p /pgl/out
	mv /pgl/work/install/pgl/deps/postgresql/install /pgl/out/install
	# Scripts that name files beside them got the paths of this build.
	grep -rlsZ /pgl/deps/postgresql/install /pgl/out/install/usr/share | xargs -0 -r sed -i 's|/pgl/deps/postgresql/install||g'
	LEFT=$(find /pgl/work/install ! -type d)
	if [ -n "$LEFT" ]; then
		echo "install.sh: $1 installs outside of the server's directories: $LEFT" >&2
		exit 1
	fi
	if grep -rls /pgl/ /pgl/out/install/usr/share; then
		echo "install.sh: $1 installs files that name directories of its build" >&2
		exit 1
	fi
}
