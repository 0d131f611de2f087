#!/bin/sh
# libxml2, without its configure script, which does not know the guest's system: the parsers of XML
# and HTML, trees, XPath and output. No network, no other encodings than those it has itself.
set -eu
. /pgl/assets/build/flags.sh
. /pgl/assets/build/flags-cxx.sh

unpack libxml include/libxml2 bin

# What its configure script would write.
VERSION=$(sed -n "s/^PACKAGE_VERSION='\(.*\)'/\1/p" configure)
NUMBER=$(echo "$VERSION" | awk -F. '{ print $1 * 10000 + $2 * 100 + $3 }')
sed -e "s/@VERSION@/$VERSION/; s/@LIBXML_VERSION_NUMBER@/$NUMBER/; s/@LIBXML_VERSION_EXTRA@//" \
	-e 's/@WITH_\(TREE\|OUTPUT\|PUSH\|WRITER\|SAX1\|HTML\|XPATH\|ISO8859X\)@/1/; s/@WITH_[A-Z0-9_]*@/0/; s/@MODULE_EXTENSION@//' \
	include/libxml/xmlversion.h.in >include/libxml/xmlversion.h
cat >config.h <<'EOF'
#define HAVE_CTYPE_H 1
#define HAVE_ERRNO_H 1
#define HAVE_FCNTL_H 1
#define HAVE_FLOAT_H 1
#define HAVE_LIMITS_H 1
#define HAVE_MATH_H 1
#define HAVE_STAT 1
#define HAVE_STDARG_H 1
#define HAVE_STDINT_H 1
#define HAVE_STDLIB_H 1
#define HAVE_STRING_H 1
#define HAVE_SYS_STAT_H 1
#define HAVE_SYS_TYPES_H 1
#define HAVE_TIME 1
#define HAVE_TIME_H 1
#define HAVE_UNISTD_H 1
#define HAVE_VA_COPY 1
EOF

for NAME in HTMLparser HTMLtree SAX SAX2 buf chvalid dict encoding entities error globals hash list parser \
	parserInternals threads tree uri valid xlink xmlIO xmlmemory xmlsave xmlstring xmlwriter xpath; do
	echo "$NAME.c"
done | compile objects "$WASM_CC $WASM_LIBRARY $WARNINGS -D_GNU_SOURCE -DHAVE_CONFIG_H -Iinclude -I."
llvm-ar rcs "$OUT/lib/libxml2.a" objects/*.o
cp -r include/libxml "$OUT/include/libxml2/"

# For configure scripts.
cat >"$OUT/bin/xml2-config" <<EOF
#!/bin/sh
for OPTION in "\$@"; do
	case "\$OPTION" in
	--version) echo $VERSION ;;
	--cflags) echo -I/pgl/deps/libxml/include/libxml2 ;;
	--libs) echo -L/pgl/deps/libxml/lib -lxml2 ;;
	*) exit 1 ;;
	esac
done
EOF
chmod 755 "$OUT/bin/xml2-config"
