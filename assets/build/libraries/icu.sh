#!/bin/sh
# ICU: collation, case conversion, conversion of strings and the names of locales, without its
# configure script and without formats, regular expressions, transliteration and converters of
# legacy encodings. The locks that the C++ library lacks are in one_thread.hpp. The data are files
# of their own, without those for what is not compiled: see icu_data.pl.
set -eu
. /pgl/assets/build/flags.sh
. /pgl/assets/build/flags-cxx.sh
. /pgl/assets/build/precompile.sh

unpack icu include/unicode share

cd source
DEFINES="-DU_DISABLE_RENAMING=1 -DU_STATIC_IMPLEMENTATION -DU_CHARSET_IS_UTF8=1 -DU_HAVE_MMAP=0 \
	-DU_HAVE_TZSET=0 -DU_HAVE_TIMEZONE=0 -DU_HAVE_TZNAME=0 -DU_HAVE_POPEN=0 \
	-DU_HAVE_NL_LANGINFO_CODESET=0 -DU_ENABLE_DYLOAD=0 \
	-DUCONFIG_NO_FORMATTING=1 -DUCONFIG_NO_LEGACY_CONVERSION=1 -DUCONFIG_NO_REGULAR_EXPRESSIONS=1 \
	-DUCONFIG_NO_TRANSLITERATION=1 -D_GNU_SOURCE -Icommon -Ii18n"
for NAME in bocsu coleitr coll collation collationbuilder collationcompare collationdata collationdatabuilder \
	collationdatareader collationfastlatin collationfastlatinbuilder collationfcd \
	collationiterator collationkeys collationroot collationrootelements collationruleparser collationsets \
	collationsettings collationtailoring collationweights rulebasedcollator sortkey ucln_in ucol ucol_res \
	uitercollationiterator utf16collationiterator utf8collationiterator; do
	echo "i18n/$NAME.cpp"
done >files.txt
# Nothing of what is compiled calls these.
UNUSED='appendable|bytestrie(builder|iterator)|cstr|cwchar|dtintrv|filterednormalizer2|icudataver|icuplug|
	loc(alematcher|aleprioritylist|distance|dspnm|map)|messagepattern|mlbe|normlzr|pluralmap|propsvec|punycode|rbbi(node|rb|setb|stbl|
	tblb)|resbund_cnv|restrace|schriter|simpleformatter|static_unicode_sets|ubidi|ubidi(ln|transform|wrt)|ubrk|
	ucasemap|ucasemap_titlecase_brkiter|ucat|ucnv(2022|_ct|_ext|_lmb|_set|disp|hz|isci|mbcs|sel)|ucol_swp|ucurr|
	udataswp|uidna|uinit|ulist|uloc(ale|builder)|uniset_closure|unistr_(case|case_locale|cnv|props|titlecase_brkiter)|
	unorm|unormcmp|ures_cnv|usc_impl|uscript|uscript_props|uset_props|ushape|usprep|ustr_wcs|util_props|utrace|utrie|
	utrie_swap|uts46|wintz'
sed 's|^|common/|' common/sources.txt | grep -v -x -E "common/($(echo "$UNUSED" | tr -d '\n\t'))\.cpp" >>files.txt
echo stubdata/stubdata.cpp >>files.txt
CXX="$WASM_CXX $WASM_LIBRARY $DEFINES -include /pgl/assets/guest/icu/one_thread.hpp \
	-DU_COMMON_IMPLEMENTATION -DU_I18N_IMPLEMENTATION -std=c++17 -fno-exceptions $WARNINGS"
# shellcheck disable=SC2086 # the compiler has arguments of its own
precompile $CXX
compile /pgl/work/libicu "$CXX $PRECOMPILED" <files.txt
llvm-ar rcs "$OUT/lib/libicu.a" /pgl/work/libicu/*.o
cp common/unicode/*.h i18n/unicode/*.h "$OUT/include/unicode/"
perl /pgl/assets/build/icu_data.pl data/in/icudt*l.dat "$OUT/share"
