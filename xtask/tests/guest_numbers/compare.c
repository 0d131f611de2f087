/*
 * Compares the guest's strtod and strtof, under the names that the build of
 * this program gives them, and its conversion to text with what the machine's
 * C library does:
 *
 *		compare ROUNDS SEED
 *
 * Every round makes one number of each kind.  Values, the end of what is read
 * and errno have to be the same.  The first difference ends the program.
 */
#include <errno.h>
#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pgl_numbers.h"

extern double guest_strtod(const char *s, char **end);
extern float guest_strtof(const char *s, char **end);

static uint64_t state;
static uint64_t compared;

/* splitmix64 */
static uint64_t
next_random(void)
{
	uint64_t	z = (state += UINT64_C(0x9e3779b97f4a7c15));

	z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
	return z ^ (z >> 31);
}

static int
below(int bound)
{
	return (int) (next_random() % (uint64_t) bound);
}

static void
differ(const char *function, const char *s, double ours, double theirs,
	   long our_end, long their_end, int our_errno, int their_errno)
{
	printf("%s(\"%s\")\nours   %a end %ld errno %d\ntheirs %a end %ld errno %d\n",
		   function, s, ours, our_end, our_errno,
		   theirs, their_end, their_errno);
	exit(1);
}

/*
 * What the machine's library is not asked for.  Machines differ in whether a
 * number that is rounded up to the smallest normal one sets errno, and glibc
 * sets it for some of the strings that may be in the parentheses behind
 * "nan".
 */
static int
errno_is_optional(double value, double smallest_normal)
{
	return isnan(value) || value == smallest_normal;
}

/*
 * glibc 2.36 rounds some hexadecimal numbers wrongly if they are subnormal:
 * 0x11d04d1p-154 for a float, for example.  hexadecimal() checks those.
 */
static int
value_is_doubtful(const char *s, double value, double smallest_normal)
{
	return strpbrk(s, "xX") != NULL && value <= smallest_normal;
}

static void
compare(const char *s)
{
	char	   *our_end;
	char	   *their_end;
	int			our_errno;
	int			their_errno;
	double		our_double;
	double		their_double;
	float		our_float;
	float		their_float;

	compared++;
	errno = 0;
	our_double = guest_strtod(s, &our_end);
	our_errno = errno;
	errno = 0;
	their_double = strtod(s, &their_end);
	their_errno = errno;

	if (errno_is_optional(fabs(their_double), DBL_MIN))
		our_errno = their_errno;
	if (value_is_doubtful(s, fabs(their_double), DBL_MIN))
	{
		our_errno = their_errno;
		our_double = their_double;
	}
	if (our_end != their_end || our_errno != their_errno ||
		!signbit(our_double) != !signbit(their_double) ||
		(isnan(our_double) ? !isnan(their_double)
		 : memcmp(&our_double, &their_double, sizeof(double)) != 0))
		differ("strtod", s, our_double, their_double, our_end - s,
			   their_end - s, our_errno, their_errno);

	errno = 0;
	our_float = guest_strtof(s, &our_end);
	our_errno = errno;
	errno = 0;
	their_float = strtof(s, &their_end);
	their_errno = errno;
	if (errno_is_optional(fabsf(their_float), FLT_MIN))
		our_errno = their_errno;
	if (value_is_doubtful(s, fabsf(their_float), FLT_MIN))
	{
		our_errno = their_errno;
		our_float = their_float;
	}
	if (our_end != their_end || our_errno != their_errno ||
		!signbit(our_float) != !signbit(their_float) ||
		(isnan(our_float) ? !isnan(their_float)
		 : memcmp(&our_float, &their_float, sizeof(float)) != 0))
		differ("strtof", s, our_float, their_float, our_end - s,
			   their_end - s, our_errno, their_errno);
}

static double
any_double(void)
{
	uint64_t	bits = next_random();
	double		value;

	switch (below(8))
	{
		case 0:					/* subnormal, or zero */
			bits &= UINT64_C(0x800fffffffffffff);
			break;
		case 1:					/* few bits */
			bits &= ~UINT64_C(0) << below(53);
			break;
		case 2:					/* near one */
			bits = (bits & UINT64_C(0x800fffffffffffff)) |
				((uint64_t) (1023 - 40 + below(80)) << 52);
			break;
		case 3:					/* the largest, and beyond for a float */
			bits |= UINT64_C(0x7fe0000000000000);
			break;
		default:
			break;
	}
	memcpy(&value, &bits, sizeof(value));
	return isfinite(value) ? value : DBL_MAX;
}

static float
any_float(void)
{
	uint32_t	bits = (uint32_t) next_random();
	float		value;

	if (below(4) == 0)
		bits &= 0x807fffff;
	memcpy(&value, &bits, sizeof(value));
	return isfinite(value) ? value : FLT_MAX;
}

/* Conversion to text, of any number and of ties. */
static void
formats(void)
{
	static char ours[2048];
	static char theirs[2048];
	double		value = fabs(any_double());
	char		format[] = {'%', '.', '*', "feEgG"[below(5)], '\0'};
	int			precision = below(8) == 0 ? below(400) : below(20);
	int			our_length;
	int			their_length;

	switch (below(6))
	{
		case 0:					/* ties */
			value = below(100000) / (double) (1 << below(12));
			break;
		case 1:					/* decimal numbers */
			value = below(1000000) / pow(10, below(8));
			break;
		case 2:					/* nines */
			value = pow(10, below(40) - 20) * (1 - pow(2, -below(54)));
			break;
		default:
			break;
	}
	compared++;
	our_length = pgl_format_double(ours, sizeof(ours), format[3], precision,
								   value);
	their_length = snprintf(theirs, sizeof(theirs), format, precision, value);
	if (our_length != their_length || strcmp(ours, theirs) != 0)
	{
		printf("%a %s %d\nours   %s (%d)\ntheirs %s (%d)\n", value, format,
			   precision, ours, our_length, theirs, their_length);
		exit(1);
	}
}

/* As many digits as are needed, fewer, and more. */
static void
printed_values(void)
{
	char		s[64];

	snprintf(s, sizeof(s), "%.17g", any_double());
	compare(s);
	snprintf(s, sizeof(s), "%.*e", below(25), any_double());
	compare(s);
	snprintf(s, sizeof(s), "%.*g", 1 + below(12), (double) any_float());
	compare(s);
	snprintf(s, sizeof(s), "%.*f", below(12),
			 (double) (int64_t) next_random() / 1e12);
	compare(s);
	snprintf(s, sizeof(s), "%a", any_double());
	compare(s);
}

static void
random_digits(char *s, int count)
{
	for (int i = 0; i < count; i++)
		s[i] = '0' + (below(3) == 0 ? 9 * below(2) : below(10));
	s[count] = '\0';
}

static void
random_decimals(void)
{
	char		s[128];
	char		digits[48];
	int			before = below(24);

	random_digits(digits, 1 + below(40));
	snprintf(s, sizeof(s), "%s%.*s%s%se%d", below(2) ? "-" : "",
			 before, digits, below(2) ? "." : "",
			 before < (int) strlen(digits) ? digits + before : "",
			 below(720) - 380);
	compare(s);
	snprintf(s, sizeof(s), "%se%d", digits, below(110) - 75);
	compare(s);
	snprintf(s, sizeof(s), "%llu", (unsigned long long) next_random() >> below(30));
	compare(s);
}

/* Digits near the place where rounding changes, with all of them and some. */
static void
middles(void)
{
	static char s[2048];
	size_t		length;
	size_t		exponent;
	char		tail[16];

	if (below(2) == 0)
	{
		float		value = fabsf(any_float());
		double		middle = ((double) value +
							  (double) nextafterf(value, INFINITY)) / 2;

		if (!isfinite(middle))
			middle = 0x1.ffffffp127;
		snprintf(s, sizeof(s), "%.160e", middle);
	}
	else
	{
#if LDBL_MANT_DIG >= 64
		double		value = fabs(any_double());
		double		above = nextafter(value, INFINITY);
		long double middle = ((long double) value + (long double) above) / 2;

		if (!isfinite(above))
			middle = 0x1.fffffffffffff8p1023L;
		snprintf(s, sizeof(s), "%.800Le", middle);
#else
		snprintf(s, sizeof(s), "%.800e", fabs(any_double()));
#endif
	}
	compare(s);

	exponent = strcspn(s, "e");
	snprintf(tail, sizeof(tail), "%s", s + exponent);
	length = exponent;
	switch (below(5))
	{
		case 0:					/* just above */
			length += below(100);
			memset(s + exponent, '0', length - exponent);
			s[length++] = '1';
			break;
		case 1:					/* cut off */
			length = 3 + below((int) length - 3);
			break;
		case 2:					/* another last digit */
			while (length > 3 && s[length - 1] == '0')
				length--;
			s[length - 1] = '0' + below(10);
			break;
		case 3:					/* another digit anywhere */
			s[2 + below((int) length - 2)] = '0' + below(10);
			break;
		default:				/* just below */
			while (length > 3 && s[length - 1] == '0')
				length--;
			s[length - 1]--;
			memset(s + length, '9', 40);
			length += 40;
			break;
	}
	strcpy(s + length, tail);
	compare(s);
}

/* Hexadecimal numbers, also by a calculation that rounds only once. */
static void
hexadecimal(void)
{
	char		s[96];
	char	   *p = s;
	int			count = below(24);

	p += sprintf(p, "%s0x", below(2) ? "-" : "");
	for (int i = 0; i < count; i++)
		*p++ = "0123456789abcdefABCDEF.08"[below(below(3) ? 25 : 2)];
	sprintf(p, "p%d", below(2) ? below(2400) - 1200 : below(400) - 200);
	compare(s);

#if LDBL_MANT_DIG >= 64 && LDBL_MIN_EXP < -2000
	{
		uint64_t	significand = next_random() >> below(64);
		int			power = below(2) ? below(2400) - 1200 : below(200) - 190;
		long double exact = ldexpl((long double) significand, power);

		sprintf(s, "0x%llxp%d", (unsigned long long) significand, power);
		if (guest_strtod(s, NULL) != (double) exact)
			differ("strtod", s, guest_strtod(s, NULL), (double) exact, 0, 0, 0, 0);
		if (guest_strtof(s, NULL) != (float) exact)
			differ("strtof", s, guest_strtof(s, NULL), (float) exact, 0, 0, 0, 0);
		compared++;
	}
#endif
}

/* What looks like a number, more or less. */
static void
syntax(void)
{
	static const char *const parts[] = {
		" ", "\t", "\n", "+", "-", "0", "00", "7", "12", ".", "e", "E", "e+",
		"e-", "x", "0x", "0X", "p", "P-", "a", "inf", "INF", "infinity",
		"Infinit", "nan", "NaN", "NAN(", "(", ")", "_", "1", "9", "", ",",
		"99999999999999999999", "e99999999999999999999", "0.0000000000"
	};
	char		s[512];
	int			count = 1 + below(8);

	s[0] = '\0';
	for (int i = 0; i < count; i++)
		strcat(s, parts[below((int) (sizeof(parts) / sizeof(parts[0])))]);
	compare(s);
}

/* Lengths and exponents that take each other's place. */
static void
long_strings(void)
{
	static char s[4200];
	int			zeros = below(2000);
	int			count = 1 + below(2000);
	char	   *p = s;

	if (below(2) == 0)
	{
		p += sprintf(p, "0.");
		memset(p, '0', zeros);
		p += zeros;
		random_digits(p, count);
		p += count;
		sprintf(p, "e%d", zeros + below(700) - 350);
	}
	else
	{
		random_digits(p, count);
		p += count;
		memset(p, '0', zeros);
		p += zeros;
		sprintf(p, "e-%d", zeros + count + below(700) - 350);
	}
	compare(s);
}

int
main(int argc, char **argv)
{
	static const char *const fixed[] = {
		"", "0", "-0", "+0", ".", "-.", ".e1", "1.", "1.e1", ".5", "0x", "0x.",
		"0x.p1", "0x1.", "0x.8", "0x1p", "0x1p+", "1e", "1e+", "1e-", "1ee5",
		"1..5", "--1", "+-1", "- 1", "0x0p99999", "0e99999999999999",
		"1e-99999999999999999999999", "1e99999999999999999999999",
		"2.4703282292062327208e-324", "2.4703282292062328e-324",
		"4.9406564584124654e-324", "2.2250738585072011e-308",
		"2.2250738585072012e-308", "2.2250738585072014e-308",
		"1.7976931348623157e308", "1.7976931348623158e308",
		"1.7976931348623159e308", "179769313486231580793e289",
		"9007199254740993", "9007199254740992.999999999999999999999",
		"9007199254740993.00000000000000000000000000000000000000001",
		"16777217", "16777217.0000000000000000000000000001", "3.4028236e38",
		"3.4028235677973366e38", "7.0064923216240853e-46",
		"7.0064923216240854e-46", "1.1754943e-38", "1e22", "1e23", "1e-22",
		"1e-23", "8.5e-45", "1.5e-300", "0.123456789", "18446744073709551615",
		"18446744073709551616", "9999999999999999999", "99999999999999999999"
	};
	uint64_t	rounds;

	if (argc != 3)
	{
		fprintf(stderr, "usage: compare ROUNDS SEED\n");
		return 2;
	}
	rounds = strtoull(argv[1], NULL, 10);
	state = strtoull(argv[2], NULL, 10);
	for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++)
		compare(fixed[i]);
	for (uint64_t i = 0; i < rounds; i++)
	{
		printed_values();
		random_decimals();
		hexadecimal();
		syntax();
		formats();
		if (i % 16 == 0)
		{
			middles();
			long_strings();
		}
	}
	printf("%llu\n", (unsigned long long) compared);
	return 0;
}
