package kit

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"testing"

	"filippo.io/age/plugin"
	"pgregory.net/rapid"
)

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTheFieldMultipliesAsItsStandardSays(t *testing.T) {
	for _, v := range [][3]byte{ // FIPS 197, sections 4.2 and 4.2.1
		{0x57, 0x83, 0xc1}, {0x57, 0x13, 0xfe}, {0x57, 0x02, 0xae}, {0x57, 0x04, 0x47}, {0x57, 0x08, 0x8e}, {0x57, 0x10, 0x07},
		{0, 7, 0}, {7, 0, 0}, {1, 0xff, 0xff},
	} {
		if got := multiply(v[0], v[1]); got != v[2] {
			t.Errorf("%#x · %#x = %#x, want %#x", v[0], v[1], got, v[2])
		}
	}
}

func TestEveryElementHasItsInverse(t *testing.T) {
	if inverse(0) != 0 {
		t.Error("0 has an inverse")
	}
	for a := 1; a < 256; a++ {
		if got := multiply(byte(a), inverse(byte(a))); got != 1 {
			t.Errorf("%#x times its inverse is %#x", a, got)
		}
	}
}

func TestSharesAreThoseOfThePublishedVector(t *testing.T) {
	// draft-mcgrew-tss-03, section 9: secret "test\0", threshold 2, 2 shares.
	secret, one, two := unhex(t, "7465737400"), unhex(t, "b9fa07e185"), unhex(t, "f5409b4511")
	coefficients := make([]byte, len(secret)) // follow from the first share: y(1) = secret + c
	for i := range coefficients {
		coefficients[i] = secret[i] ^ one[i]
	}
	points, err := split(secret, 2, 2, bytes.NewReader(coefficients))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(points[0].y, one) || !bytes.Equal(points[1].y, two) {
		t.Errorf("the shares are %x and %x", points[0].y, points[1].y)
	}
	if got := interpolate([]point{{1, one}, {2, two}}, 0); !bytes.Equal(got, secret) {
		t.Errorf("they give %x", got)
	}
}

func TestAnySharesThatAreEnoughGiveTheSecret(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := rapid.IntRange(2, 8).Draw(t, "threshold")
		n := rapid.IntRange(k, 16).Draw(t, "shares")
		secret := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "secret")
		points, err := split(secret, k, n, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		chosen := rapid.Permutation(points).Draw(t, "order")[:rapid.IntRange(k, n).Draw(t, "given")]
		if got := interpolate(chosen, 0); !bytes.Equal(got, secret) {
			t.Fatalf("%d of %d shares with threshold %d gave another secret", len(chosen), n, k)
		}
	})
}

// Fewer shares than enough say nothing: whatever they are, every other secret
// is as possible as the true one, because one more share would make it so.
func TestFewerSharesThanEnoughFitEverySecret(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := rapid.IntRange(2, 8).Draw(t, "threshold")
		secret := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "secret")
		other := rapid.SliceOfN(rapid.Byte(), 32, 32).Draw(t, "other")
		points, err := split(secret, k, 16, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		few := rapid.Permutation(points).Draw(t, "order")[:k-1]
		through := append([]point{{0, other}}, few...)
		missing := byte(200)
		if got := interpolate(append([]point{{missing, interpolate(through, missing)}}, few...), 0); !bytes.Equal(got, other) {
			t.Fatal("some secret does not fit shares that are too few: they say something about it")
		}
	})
}

func TestSharesOfOneSecretDifferEachTime(t *testing.T) {
	secret := make([]byte, 32)
	seen := map[string]bool{}
	for range 50 {
		points, err := split(secret, 3, 5, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range points {
			if seen[string(p.y)] {
				t.Fatal("a share came twice: its polynomial is not random")
			}
			seen[string(p.y)] = true
		}
	}
}

func TestBech32IsThatOfAge(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		data := rapid.SliceOfN(rapid.Byte(), 0, 64).Draw(t, "data")
		want := plugin.EncodeIdentity("oracle", data)
		if got := string(bytes.ToUpper([]byte(bech32("age-plugin-oracle-", data)))); got != want {
			t.Fatalf("got %s, want %s", got, want)
		}
	})
}
