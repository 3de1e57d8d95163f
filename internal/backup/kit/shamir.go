package kit

import "io"

// The field is GF(2^8) with the polynomial x^8 + x^4 + x^3 + x + 1 (FIPS 197,
// section 4.2), in which shares are made as in draft-mcgrew-tss-03: one random
// polynomial for each byte of the secret, which is its value at 0. Nothing
// here looks a secret up in a table or branches on one.

// multiply multiplies two elements of the field.
func multiply(a, b byte) (product byte) {
	for range 8 {
		product ^= -(b & 1) & a
		a = a<<1 ^ -(a>>7)&0x1b
		b >>= 1
	}
	return product
}

// inverse is a^254: a's inverse, and 0 for 0.
func inverse(a byte) byte {
	result, power := byte(1), a
	for range 7 { // 254 = 2 + 4 + … + 128
		power = multiply(power, power)
		result = multiply(result, power)
	}
	return result
}

// point is the value of the secret's polynomials at x.
type point struct {
	x byte
	y []byte
}

// split gives n points, of which any k give the secret again and any k-1 say
// nothing about it. n is at most 255, as 0 is where the secret itself is.
func split(secret []byte, k, n int, random io.Reader) ([]point, error) {
	points := make([]point, n)
	for i := range points {
		points[i] = point{byte(i + 1), make([]byte, len(secret))}
	}
	polynomial := make([]byte, k)
	defer clear(polynomial)
	for b := range secret {
		polynomial[0] = secret[b]
		if _, err := io.ReadFull(random, polynomial[1:]); err != nil {
			return nil, err
		}
		for i := range points {
			var y byte
			for c := k - 1; c >= 0; c-- {
				y = multiply(y, points[i].x) ^ polynomial[c]
			}
			points[i].y[b] = y
		}
	}
	return points, nil
}

// interpolate gives the value at x of the polynomials of the least degree that
// go through all points (Lagrange). No two points may have the same x.
func interpolate(points []point, x byte) []byte {
	out := make([]byte, len(points[0].y))
	for i, p := range points {
		weight := byte(1)
		for j, q := range points {
			if i != j {
				weight = multiply(weight, multiply(x^q.x, inverse(p.x^q.x)))
			}
		}
		for b := range out {
			out[b] ^= multiply(weight, p.y[b])
		}
	}
	return out
}
