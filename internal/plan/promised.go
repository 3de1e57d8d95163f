package plan

import "fmt"

// promisedSubjects are promises about protection and people. Where a plan has
// no place for the answer, it says nothing, and a control shows whether the
// promise is kept: Commitment.Evidence names it.
var promisedSubjects = []Subject{
	{"access.restricted", YesNo, "", "whether only those see clients' data who need them for their work", nothing},
	{"audit.access-logged", YesNo, "", "whether significant access is logged", nothing},
	{"backup.apart", YesNo, "backup", "whether copies lie apart from what they are copies of", nothing},
	{"clients.roles", YesNo, "", "whether clients can restrict access by role", nothing},
	{"claim.cover", Words, "claim", "what an insurance covers", func(p *Plan, vs *values) {
		for i, c := range p.Claims {
			vs.add(c.Name, c.Cover, fmt.Sprintf("claims[%d].cover", i), c.Standard)
		}
	}},
	{"code.versioned", YesNo, "", "whether all that runs comes from the repository", nothing},
	{"data.stays-in", Countries, "data", "where data may be", func(p *Plan, vs *values) {
		for i, d := range p.Data {
			for j, country := range d.Stays {
				vs.add(d.Name, country, fmt.Sprintf("data[%d].stays_in[%d]", i, j))
			}
		}
	}},
	{"dependencies.monitored", YesNo, "", "whether known weaknesses of software that is used are watched for", nothing},
	{"disclosure.remediate-within", Time, "", "how soon a weakness that was reported is mended", nothing},
	{"disclosure.safe-harbour", YesNo, "", "whether reporters in good faith are left in peace", nothing},
	{"http.redirected", YesNo, "", "whether HTTP is redirected to HTTPS", nothing},
	{"incidents.logged", YesNo, "", "whether a log is kept of an incident, and of what is done and said", nothing},
	{"investigations.cooperation", YesNo, "", "whether regulators' investigations are helped", nothing},
	{"node.isolated", YesNo, "node", "whether a node shares nothing with the others", func(p *Plan, vs *values) {
		p.eachNode(func(n *Node, at string) { vs.add(n.Name, said(&n.Isolated), at+".isolated", n.Roles...) })
	}},
	{"notice.states", Words, "notice", "what a notice says", func(p *Plan, vs *values) {
		for i, n := range p.Notices {
			for j, state := range n.States {
				vs.add(n.Name, state, fmt.Sprintf("notices[%d].states[%d]", i, j), n.Event, n.To)
			}
		}
	}},
	{"patching.staged", YesNo, "", "whether changes are tested before production", func(p *Plan, vs *values) {
		if p.Security.Patching.Staging != "" {
			vs.add("", "yes", "security.patching.staging")
		}
	}},
	{"person.away-after", Time, "person", "after what absence the next in line is engaged", func(p *Plan, vs *values) {
		for i, x := range p.People {
			vs.add(x.Name, x.AwayAfter.String(), fmt.Sprintf("people[%d].away_after", i))
		}
	}},
	{"person.credentials", Words, "person", "what a person can open: all, scoped, none", func(p *Plan, vs *values) {
		for i, x := range p.People {
			vs.add(x.Name, x.Credentials, fmt.Sprintf("people[%d].credentials", i))
		}
	}},
	{"remote-access.password", YesNo, "node", "whether a password opens a node", func(p *Plan, vs *values) {
		p.eachNode(func(n *Node, at string) {
			if n.Remote != nil {
				vs.add(n.Name, said(n.Remote.Password), at+".remote_access.password", n.Roles...)
			}
		})
	}},
	{"secrets.plaintext", YesNo, "", "whether secrets are stored readable", nothing},
	{"storage.keys-apart", YesNo, "node", "whether keys lie elsewhere than what they encrypt", func(p *Plan, vs *values) {
		p.eachNode(func(n *Node, at string) {
			c, path := n.Encryption, at+".encryption"
			if c == nil {
				c, path = p.Security.Encryption, "security.encryption"
			}
			if c != nil {
				vs.add(n.Name, said(c.KeysApart), path+".keys_apart", n.Roles...)
			}
		})
	}},
	{"tls.forward-secrecy", YesNo, "traffic", "whether recorded traffic stays closed when a key leaks later", nothing},
	{"tls.uses", Version, "traffic", "version of TLS that is used", func(p *Plan, vs *values) {
		for i, t := range p.Security.TLS {
			vs.add(t.For, t.Uses, fmt.Sprintf("security.tls[%d].uses", i))
		}
	}},
}

// nothing is what a plan says of what only a control can see.
func nothing(*Plan, *values) {}
