/*-------------------------------------------------------------------------
 *
 * pgl_decimal.h
 *	  A decimal number that was read, and the binary value nearest to it.
 *
 * src/backend/port/pgl_decimal.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGL_DECIMAL_H
#define PGL_DECIMAL_H

#include <stdbool.h>
#include <stdint.h>

/* Decimal digits that a 64-bit integer can always hold. */
#define DIGITS 19

/* What differs between the two types, and is known to the compiler. */
typedef struct Format
{
	int			fraction_bits;	/* stored bits of the significand */
	int			bias;			/* of the exponent */
	int			infinity;		/* biased exponent of infinity */
	int			exact_power;	/* largest exact power of ten */
	int			min_power;		/* with less, any DIGITS digits are zero */
	int			max_power;		/* with more, any digit is infinity */
} Format;

/* A decimal number: "significand" times ten to the power of "power". */
typedef struct Decimal
{
	uint64_t	significand;	/* the first DIGITS digits */
	int64_t		power;
	int64_t		ndigits;		/* all digits, from the first that is not 0 */
	bool		truncated;		/* not all digits that follow are 0 */
	const char *first;			/* the first digit that is not 0 */
	const char *end;			/* behind the last digit */
} Decimal;

extern uint64_t pgl_decide_exactly(const Decimal *decimal, uint64_t bits,
								   const Format *format, bool *inexact);

#endif							/* PGL_DECIMAL_H */
