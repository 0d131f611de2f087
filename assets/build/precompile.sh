# The headers of the C++ library, read once for a library of many files, of whose time they take
# half; used after flags-cxx.sh.

# precompile COMMAND ...: sets PRECOMPILED, the options with which this command of the C++ compiler
# has these headers.
precompile() {
	for HEADER in algorithm array atomic cmath cstdint cstdio cstdlib cstring functional iterator limits list map \
		memory optional queue set sstream stack stdexcept string tuple type_traits unordered_map utility vector; do
		echo "#include <$HEADER>"
	done >/pgl/work/library.hpp
	"$@" -x c++-header /pgl/work/library.hpp -o /pgl/work/library.pch
	PRECOMPILED="-include-pch /pgl/work/library.pch"
}
