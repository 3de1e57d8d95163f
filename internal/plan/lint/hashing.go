package lint

import (
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/plan"
)

// slow are hashes made for what people choose, with the least work factor that
// is still defended: bcrypt's cost (OWASP), PBKDF2's rounds (NIST SP 800-63B-3, 5.1.1.2).
// Argon2's and scrypt's numbers are several; one that is written is believed.
var slow = map[string]int{"bcrypt": 10, "pbkdf2": 10000, "scrypt": 1, "argon2": 1, "argon2id": 1, "argon2i": 1}

// fast are hashes that suit only what is random already.
var fast = []string{"md5", "sha1", "sha256", "sha512", "sha3", "blake2", "blake2b", "blake3", "hmacsha256", "hmacsha512", "sha384"}

// family is an algorithm's name without its punctuation: PBKDF2-HMAC-SHA-256
// is pbkdf2, SHA-256 is sha256.
func family(algorithm string) string {
	name := strings.NewReplacer("-", "", "_", "", " ", "").Replace(strings.ToLower(algorithm))
	for known := range slow {
		if name == known || strings.HasPrefix(name, known+"hmac") || strings.HasPrefix(name, known+"sha") {
			return known
		}
	}
	return name
}

// secrets names what an entry is about, in a sentence.
func secrets(h *plan.Hashing) string {
	words := slices.Sorted(slices.Values(h.Of))
	for i := range words {
		words[i] = strings.ReplaceAll(words[i], "-", " ")
	}
	if len(words) == 0 {
		return "secrets"
	}
	return listed(words)
}

func hashingUnquantified(c *Context) {
	for i := range c.Security.Hashing {
		h := &c.Security.Hashing[i]
		path, subject := at("security.hashing", i), "hashing of "+secrets(h)
		least, known := slow[family(h.Algorithm)]
		switch {
		case h.Algorithm == "":
			c.Report(path, subject, "How %s are hashed is not said.", secrets(h))
		case known && h.WorkFactor == 0:
			c.Report(path+".algorithm", subject, "%s are hashed with %s, and its work factor is no number.", upper(secrets(h)), h.Algorithm)
		case known && h.WorkFactor < least:
			c.Report(path+".work_factor", subject, "%s are hashed with %s and a work factor of %d; less than %d is guessed too fast.", upper(secrets(h)), h.Algorithm, h.WorkFactor, least).
				Saying("Raise the work factor to %d at least, as far as a sign-in can wait.", least)
		}
	}
}

func hashingTruncates(c *Context) {
	for i := range c.Security.Hashing {
		h := &c.Security.Hashing[i]
		if family(h.Algorithm) != "bcrypt" || h.Prehash != "" {
			continue
		}
		long := slices.DeleteFunc(slices.Sorted(slices.Values(h.Of)), func(of string) bool { return of == "recovery-codes" })
		if len(long) == 0 {
			continue
		}
		f := c.Report(at("security.hashing", i, "algorithm"), "hashing of "+secrets(h), "%s are hashed with bcrypt, which reads their first 72 bytes and ignores the rest.", upper(secrets(h)))
		if slices.Equal(long, []string{"passwords"}) {
			f.As(Warning) // few people choose so long a password
		}
	}
}

func hashingTooFast(c *Context) {
	for i := range c.Security.Hashing {
		h := &c.Security.Hashing[i]
		if slices.Contains(h.Of, "passwords") && slices.Contains(fast, family(h.Algorithm)) {
			c.Report(at("security.hashing", i, "algorithm"), "hashing of "+secrets(h), "Passwords are hashed with %s, which is made to be fast.", h.Algorithm)
		}
	}
}
