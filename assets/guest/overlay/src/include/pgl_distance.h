/*-------------------------------------------------------------------------
 *
 * pgl_distance.h
 *	  Distances between arrays of floating point numbers, computed by the
 *	  host with the vector instructions of its processor, of which
 *	  WebAssembly has the oldest only.
 *
 * The call costs as much as some dozens of additions, so that short arrays
 * are better computed in a loop.  Sums are added up in another order than by
 * a loop, as those of compilers that vectorize one are.
 *
 * src/include/pgl_distance.h
 *
 *-------------------------------------------------------------------------
 */
#ifndef PGL_DISTANCE_H
#define PGL_DISTANCE_H

#include <stdint.h>

/* Arrays shorter than this are left to a loop. */
#define PGL_DISTANCE_MIN	32

typedef enum PglMetric
{
	PGL_L2_SQUARED = 0,
	PGL_INNER_PRODUCT = 1,
	PGL_COSINE_SIMILARITY = 2,
	PGL_L1 = 3,
} PglMetric;

typedef enum PglElement
{
	PGL_FLOAT4 = 0,
	PGL_HALF = 1,				/* IEEE 754's binary16 */
} PglElement;

extern double pgl_distance(PglMetric metric, PglElement element, int32_t dim,
						   const void *a, const void *b);

#endif							/* PGL_DISTANCE_H */
