package lint

import (
	"fmt"
	"slices"
	"strings"

	"github.com/missionopsai/foundry/internal/plan"
)

// securityRules judge what the plan says of protection: words that leave the
// important part open, and promises that the fleet does not keep.
var securityRules = slices.Concat(residencyRules, []Rule{
	{
		ID: "tls-floor-undefined", Title: "The lowest version of TLS is not stated", Group: "security", Severity: Warning,
		Why:    "What is used by a good client says nothing of what a bad one may ask for. An attacker chooses the lowest version that is still answered.",
		Mend:   "Write minimum: the lowest version that is answered, 1.2 or 1.3, and refuse what is below it.",
		Source: "RFC 9325, 3.1.1; RFC 8446; RFC 8996",
		check:  tlsFloorUndefined,
	},
	{
		ID: "mail-tls-uncovered", Title: "Mail is left out of what is said of encryption in transit", Group: "security", Severity: Warning,
		Why:    "Between mail servers encryption is opportunistic: without a policy of its own mail falls back to plain text, silently, when somebody on the way removes the offer.",
		Mend:   "Add an entry to security.tls for mail with its minimum; publish MTA-STS or DANE for the mail that you receive, and require TLS of your relay.",
		Source: "RFC 3207, 6; RFC 8461; RFC 7672",
		check:  mailTLSUncovered,
	},
	{
		ID: "hashing-unquantified", Title: "A password hash without its work factor", Group: "security", Severity: Warning,
		Why:    "The work factor is the whole strength of such a hash. An appropriate one cannot be checked, and stays what it was on the day of installation.",
		Mend:   "Write the algorithm and work_factor, such as bcrypt with 12, and raise it when hardware allows.",
		Source: "NIST SP 800-63B-3, 5.1.1.2",
		check:  hashingUnquantified,
	},
	{
		ID: "hashing-truncates", Title: "A hash that ignores the end of its input", Group: "security", Severity: Error,
		Why:    "bcrypt reads 72 bytes and ignores the rest: two tokens that begin alike are one token, and a long passphrase is cut off.",
		Mend:   "Write prehash: such as hmac-sha-256 before bcrypt; for random tokens of 128 bits or more use sha-256 alone, as there is nothing to guess.",
		Source: "NIST SP 800-63B-3, 5.1.1.2: verifiers do not truncate the secret",
		check:  hashingTruncates,
	},
	{
		ID: "hashing-too-fast", Title: "Passwords under a hash that is made to be fast", Group: "security", Severity: Error,
		Why:    "A graphics card tries billions of such hashes in a second; a stolen table of passwords is read within hours.",
		Mend:   "Store what people choose with argon2id, scrypt or bcrypt, with its work factor.",
		Source: "NIST SP 800-63B-3, 5.1.1.2",
		check:  hashingTooFast,
	},
	{
		ID: "cipher-without-mode", Title: "A cipher without its mode", Group: "security", Severity: Warning,
		Why:    "AES-256 is a block cipher. Its mode decides whether a changed byte is noticed and whether equal blocks look equal: GCM and XTS protect, ECB does not.",
		Mend:   "Write the cipher with its mode: aes-256-gcm for files and backups, xts-aes-256 for disks, or the format, such as age.",
		Source: "NIST SP 800-38A, 800-38D, 800-38E",
		check:  cipherWithoutMode,
	},
	{
		ID: "keys-with-data", Title: "Keys lie where the data are", Group: "security", Severity: Error,
		Why:    "Whoever takes the disk or the backup takes the key with it: the encryption protects from nobody.",
		Mend:   "Keep the key with another supplier, in a hardware module or in the shares of people, and write keys_apart: true.",
		Source: "ISO/IEC 27001:2022, A.8.24; NIST SP 800-57 part 1",
		check:  keysWithData,
	},
	{
		ID: "isolated-node-shared", Title: "An isolated node that shares something", Group: "security", Severity: Error,
		Why:    "Isolation is worth as much as its weakest link. Whoever holds the shared control plane, network or account holds the isolated node too.",
		Mend:   "Give the node a control plane and an account of its own and no connection to the others, or do not call it isolated.",
		Source: "ISO/IEC 27001:2022, A.8.22",
		check:  isolatedNodeShared,
	},
	{
		ID: "all-credentials-one-person", Title: "All credentials with somebody who needs a few", Group: "security", Severity: Warning,
		Why:    "A person in whose keeping everything is can be robbed, pressed or mistaken, and nobody else would notice. A contact for emergencies needs few of them, and rarely.",
		Mend:   "Give this person what the part needs (credentials: scoped); seal the rest so that opening it takes two people or is reported, as with shares of a recovery key.",
		Source: "ISO/IEC 27001:2022, A.5.15, A.8.2",
		check:  allCredentialsOnePerson,
	},
	{
		ID: "password-login", Title: "Nodes that accept a password", Group: "security", Severity: Error,
		Why:    "A password can be guessed from anywhere at any hour, and is, within minutes of the node's first start.",
		Mend:   "Accept keys or a VPN only: write password: false, and take ssh-password out of by.",
		Source: "ISO/IEC 27001:2022, A.8.5",
		check:  passwordLogin,
	},
	{
		ID: "admin-without-second-factor", Title: "Administrators without a second factor", Group: "security", Severity: Error,
		Why:    "One stolen password then opens everything, backups included.",
		Mend:   "Require a second factor of every administrator, a passkey if you can, and write admin_mfa: true.",
		Source: "ISO/IEC 27001:2022, A.8.5; NIST SP 800-63B, AAL2",
		check:  adminWithoutSecondFactor,
	},
})

// versions of TLS, oldest first.
var tlsVersions = []string{"1.0", "1.1", "1.2", "1.3"}

func tlsFloorUndefined(c *Context) {
	for i := range c.Security.TLS {
		t := &c.Security.TLS[i]
		path, subject := at("security.tls", i), fmt.Sprintf("TLS for %q", t.For)
		switch {
		case t.Minimum != "" && slices.Contains(t.Refuses, t.Minimum):
			c.Report(path+".minimum", subject, "Traffic of %s answers TLS %s at least, and refuses it.", t.For, t.Minimum).With(path + ".refuses").As(Error)
		case t.Minimum != "" && t.Uses != "" && t.Uses < t.Minimum:
			c.Report(path+".uses", subject, "Traffic of %s uses TLS %s, which is below its minimum %s.", t.For, t.Uses, t.Minimum).With(path + ".minimum").As(Error)
		case t.Minimum == "":
			if open := openVersions(t); len(open) > 0 {
				said := "nothing"
				if t.Uses != "" {
					said = "the use of TLS " + t.Uses
				}
				c.Report(path, subject, "Traffic of %s is promised %s; whether TLS %s is answered is not said.", t.For, said, strings.Join(open, " or "))
			}
		}
	}
}

// openVersions lists the versions of which an entry without a minimum does not
// say whether they are answered: those between what is refused and what is
// used. Refusing 1.0 and 1.1 and using nothing in particular means 1.2.
func openVersions(t *plan.TLS) (open []string) {
	for _, v := range tlsVersions {
		used := t.Uses != "" && v >= t.Uses || t.Uses == "" && v >= "1.2" && len(t.Refuses) > 0
		if !used && !slices.Contains(t.Refuses, v) {
			open = append(open, v)
		}
	}
	return open
}

func mailTLSUncovered(c *Context) {
	if len(c.Security.TLS) == 0 || slices.ContainsFunc(c.Security.TLS, func(t plan.TLS) bool { return t.For == "mail" }) {
		return
	}
	var who, paths []string
	for i, f := range c.Functions {
		if f.Kind == "mail" {
			who, paths = append(who, about("function", f.Name)), append(paths, at("functions", i))
		}
	}
	for i, s := range c.Suppliers {
		if slices.Contains(s.Provides, "mail") || slices.Contains(s.Provides, "mail-relay") {
			who, paths = append(who, about("supplier", s.Name)), append(paths, at("suppliers", i))
		}
	}
	if len(who) == 0 {
		return
	}
	slices.Sort(who)
	c.Report("security.tls", "TLS for mail", "TLS is promised for some traffic and not for mail, which %s %s.", listed(who), does(who, "carries", "carry")).With(paths...)
}

func cipherWithoutMode(c *Context) {
	each(c, func(k plan.Cipher, path, subject string) {
		algorithm := strings.ToLower(k.Algorithm)
		if k.Mode != "" || algorithm == "" || strings.Contains(algorithm, "poly1305") || algorithm == "age" {
			return
		}
		words := strings.FieldsFunc(algorithm, func(r rune) bool { return r == '-' || r == '_' || r == ' ' || r == '/' })
		for _, mode := range []string{"gcm", "xts", "cbc", "ctr", "ccm", "siv", "ocb", "eax", "gcmsiv", "ecb", "cfb"} {
			if slices.Contains(words, mode) {
				return
			}
		}
		c.Report(path+".algorithm", subject, "Of %s it is written that data are encrypted with %s, without a mode of operation.", subject, k.Algorithm)
	})
}

func keysWithData(c *Context) {
	each(c, func(k plan.Cipher, path, subject string) {
		if k.KeysApart != nil && !*k.KeysApart {
			c.Report(path+".keys_apart", subject, "Of %s it is written that the keys lie with the data.", subject)
		}
	})
}

func allCredentialsOnePerson(c *Context) {
	insiders := 0
	for i := range c.People {
		if !c.People[i].Outside {
			insiders++
		}
	}
	for i := range c.People {
		p := &c.People[i]
		operates := slices.Contains(c.Organisation.Operators, p.Name)
		if p.Credentials != "all" || operates && !p.Outside && insiders < 2 {
			continue
		}
		who := "who operates nothing"
		switch {
		case p.Outside:
			who = "who is not of the organisation"
		case operates:
			who = "beside whom others work here"
		}
		c.Report(at("people", i, "credentials"), about("person", p.Name), "Person %q, %s, can open everything.", p.Name, who)
	}
}

func passwordLogin(c *Context) {
	for i := range c.Nodes {
		n := &c.Nodes[i]
		if n.Remote == nil {
			continue
		}
		if n.Remote.Password != nil && *n.Remote.Password || slices.Contains(n.Remote.By, "ssh-password") {
			c.Report(at("nodes", i, "remote_access"), about("node", n.Name), "Node %q lets people in by password.", n.Name)
		}
	}
}

func adminWithoutSecondFactor(c *Context) {
	if mfa := c.Security.AdminMFA; mfa != nil && !*mfa {
		c.Report("security.admin_mfa", "security", "Administrators sign in with one factor.")
	}
}
