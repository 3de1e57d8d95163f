package plan

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// subjects is the vocabulary of commitments, in the order of the names.
var subjects = func() []Subject {
	all := slices.Concat(functionSubjects, backupSubjects, placeSubjects, supplierSubjects, noticeSubjects, securitySubjects, promisedSubjects, dutySubjects())
	slices.SortFunc(all, func(a, b Subject) int { return strings.Compare(a.Name, b.Name) })
	return all
}()

var functionSubjects = []Subject{
	{"function.mtd", Time, "function", "how long a function may be down at most", func(p *Plan, vs *values) {
		p.eachFunction(func(f *Function, at string, also []string) { vs.add(f.Name, f.MTD.String(), at+".mtd", also...) })
	}},
	{"function.rpo", Time, "function", "how much of the latest data may be lost", func(p *Plan, vs *values) {
		p.eachFunction(func(f *Function, at string, also []string) { vs.add(f.Name, f.RPO.String(), at+".rpo", also...) })
	}},
	{"function.rto", Time, "function", "how long until a function is back", func(p *Plan, vs *values) {
		p.eachFunction(func(f *Function, at string, also []string) { vs.add(f.Name, f.RTO.String(), at+".rto", also...) })
	}},
	{"functions.count", Count, "", "how many functions there are", counting("functions", func(p *Plan) int { return len(p.Functions) })},
	{"people.count", Count, "", "how many people of the organisation the plan counts on", counting("people", func(p *Plan) (n int) {
		for _, person := range p.People {
			if !person.Outside {
				n++
			}
		}
		return n
	})},
	{"scenario.confirm-within", Time, "scenario", "how long from detection until a loss is confirmed", func(p *Plan, vs *values) {
		for i, s := range p.Scenarios {
			vs.add(s.Name, s.ConfirmWithin.String(), fmt.Sprintf("scenarios[%d].confirm_within", i), s.Loses...)
		}
	}},
	{"scenario.detect-within", Time, "scenario", "how long until a loss is seen", func(p *Plan, vs *values) {
		for i, s := range p.Scenarios {
			vs.add(s.Name, s.DetectWithin.String(), fmt.Sprintf("scenarios[%d].detect_within", i), s.Loses...)
		}
	}},
	{"scenario.restore-within", Time, "scenario", "how long until everything is back as it was", func(p *Plan, vs *values) {
		for i, s := range p.Scenarios {
			vs.add(s.Name, s.RestoreWithin.String(), fmt.Sprintf("scenarios[%d].restore_within", i), s.Loses...)
		}
	}},
}

var backupSubjects = []Subject{
	{"backup.country", Countries, "backup", "where backups lie", func(p *Plan, vs *values) {
		p.eachTarget(func(b *Backup, t *BackupTarget, at string, also []string) {
			country, path := p.TargetCountry(t)
			vs.add(b.Name, country, at+path, also...)
		})
	}},
	{"backup.deletion", Time, "backup", "after what time a backup is deleted", func(p *Plan, vs *values) {
		p.eachBackup(func(b *Backup, at string, also []string) {
			vs.add(b.Name, b.DeleteAfter.String(), at+".delete_after", also...)
		})
	}},
	{"backup.encryption", Words, "backup", "how backups are encrypted", func(p *Plan, vs *values) {
		p.eachBackup(func(b *Backup, at string, also []string) {
			p.cipher(vs, b.Name, b.Encryption, at, also)
		})
	}},
	{"backup.immutable", YesNo, "backup", "whether nobody can remove a backup before its time", func(p *Plan, vs *values) {
		p.eachTarget(func(b *Backup, t *BackupTarget, at string, also []string) {
			vs.add(b.Name, said(t.Immutable), at+".immutable", also...)
		})
	}},
	{"backup.interval", Time, "backup", "how often data are backed up, or how far a continuous copy may be behind", func(p *Plan, vs *values) {
		p.eachBackup(func(b *Backup, at string, also []string) {
			if b.Continuous.Known() {
				vs.add(b.Name, b.Continuous.String(), at+".continuous", also...)
				return
			}
			vs.add(b.Name, b.Every.String(), at+".every", also...)
		})
	}},
	{"backup.retention", Time, "backup", "how long backups are kept", func(p *Plan, vs *values) {
		p.eachBackup(func(b *Backup, at string, also []string) {
			if !b.KeepAtLeast.IsZero() {
				vs.add(b.Name, b.KeepAtLeast.String(), at+".keep_at_least", also...)
				return
			}
			vs.add(b.Name, b.Keep.String(), at+".keep", also...)
		})
	}},
	{"backup.supplier", Suppliers, "backup", "with whom backups lie", func(p *Plan, vs *values) {
		p.eachTarget(func(b *Backup, t *BackupTarget, at string, also []string) {
			vs.add(b.Name, p.TargetSupplier(t), at, also...)
		})
	}},
	{"backup.test-interval", Time, "backup", "how often it is tested that a backup can be restored", func(p *Plan, vs *values) {
		p.eachBackup(func(b *Backup, at string, also []string) {
			vs.add(b.Name, b.TestEvery.String(), at+".test_every", also...)
		})
	}},
}

var placeSubjects = []Subject{
	{"hosting.country", Countries, "node", "where nodes stand", func(p *Plan, vs *values) {
		p.eachNode(func(n *Node, at string) {
			path := at + ".country"
			if n.Country == "" {
				path = at + ".site"
			}
			vs.add(n.Name, p.Country(n), path, n.Roles...)
		})
	}},
	{"hosting.jurisdiction", Countries, "node", "whose law the suppliers of nodes obey", func(p *Plan, vs *values) {
		p.eachNode(func(n *Node, at string) {
			if s := p.Supplier(n.Supplier); s != nil {
				vs.add(n.Name, s.Jurisdiction, at+".supplier", append(slices.Clone(n.Roles), s.Name)...)
			}
		})
	}},
	{"hosting.supplier", Suppliers, "node", "with whom nodes are", func(p *Plan, vs *values) {
		p.eachNode(func(n *Node, at string) { vs.add(n.Name, n.Supplier, at+".supplier", n.Roles...) })
	}},
	{"nodes.count", Count, "", "how many nodes there are", counting("nodes", func(p *Plan) int { return len(p.Nodes) })},
	{"remote-access.methods", Words, "node", "how nodes are reached", func(p *Plan, vs *values) {
		p.eachNode(func(n *Node, at string) {
			if n.Remote == nil {
				return
			}
			for i, by := range n.Remote.By {
				vs.add(n.Name, by, fmt.Sprintf("%s.remote_access.by[%d]", at, i), n.Roles...)
			}
			if n.Remote.Password != nil && *n.Remote.Password && !slices.Contains(n.Remote.By, "ssh-password") {
				vs.add(n.Name, "ssh-password", at+".remote_access.password", n.Roles...)
			}
		})
	}},
	{"remote-first", YesNo, "", "whether nobody needs to be at a certain place to work", func(p *Plan, vs *values) {
		vs.add("", said(p.Organisation.Remote), "organisation.remote_first")
	}},
	{"sites.count", Count, "", "how many sites there are", counting("sites", func(p *Plan) int { return len(p.Sites) })},
	{"storage.encryption", Words, "node", "how data at rest are encrypted", func(p *Plan, vs *values) {
		p.eachNode(func(n *Node, at string) { p.cipher(vs, n.Name, n.Encryption, at, n.Roles) })
	}},
}

var supplierSubjects = []Subject{
	{"supplier.alternatives", Count, "supplier", "how many alternatives there are to a supplier", func(p *Plan, vs *values) {
		p.eachSupplier(func(s *Supplier, at string) {
			vs.add(s.Name, strconv.Itoa(len(s.Alternatives)), at+".alternatives", s.Provides...)
		})
	}},
	{"supplier.jurisdiction", Countries, "supplier", "whose law a supplier obeys", func(p *Plan, vs *values) {
		p.eachSupplier(func(s *Supplier, at string) { vs.add(s.Name, s.Jurisdiction, at+".jurisdiction", s.Provides...) })
	}},
	{"supplier.provisions-within", Time, "supplier", "how soon a supplier delivers a new node", func(p *Plan, vs *values) {
		p.eachSupplier(func(s *Supplier, at string) {
			vs.add(s.Name, s.Provisions.String(), at+".provisions_within", s.Provides...)
		})
	}},
	{"supplier.retains-data", YesNo, "supplier", "whether a supplier keeps what it is sent", func(p *Plan, vs *values) {
		p.eachSupplier(func(s *Supplier, at string) { vs.add(s.Name, said(s.Retains), at+".retains_data", s.Provides...) })
	}},
	{"supplier.transfer-safeguard", Words, "supplier", "what protects data that go to a supplier abroad", func(p *Plan, vs *values) {
		p.eachSupplier(func(s *Supplier, at string) {
			vs.add(s.Name, s.Safeguard, at+".transfer_safeguard", s.Provides...)
		})
	}},
	{"suppliers.count", Count, "", "how many suppliers there are", counting("suppliers", func(p *Plan) int { return len(p.Suppliers) })},
}

var noticeSubjects = []Subject{
	{"disclosure.acknowledge-within", Time, "", "how soon a report of a weakness is acknowledged", func(p *Plan, vs *values) {
		vs.add("", p.Security.Disclosure.Acknowledge.String(), "security.disclosure.acknowledge_within")
	}},
	{"disclosure.update-interval", Time, "", "how often the reporter of a weakness hears of it", func(p *Plan, vs *values) {
		vs.add("", p.Security.Disclosure.UpdateEvery.String(), "security.disclosure.update_every")
	}},
	{"notice.update-interval", Time, "notice", "how often those told hear again", func(p *Plan, vs *values) {
		for i, n := range p.Notices {
			vs.add(n.Name, n.UpdateEvery.String(), fmt.Sprintf("notices[%d].update_every", i), n.Event, n.To)
		}
	}},
	{"notice.within", Time, "notice", "how soon somebody is told", func(p *Plan, vs *values) {
		for i, n := range p.Notices {
			vs.add(n.Name, n.Within.String(), fmt.Sprintf("notices[%d].within", i), n.Event, n.To)
		}
	}},
}

var securitySubjects = []Subject{
	{"admin.mfa", YesNo, "", "whether administrators need a second factor", func(p *Plan, vs *values) {
		vs.add("", said(p.Security.AdminMFA), "security.admin_mfa")
	}},
	{"claim.status", Words, "claim", "whether a standard is held, in progress or aligned with", func(p *Plan, vs *values) {
		for i, c := range p.Claims {
			vs.add(c.Name, c.Status, fmt.Sprintf("claims[%d].status", i), c.Standard)
		}
	}},
	{"hashing.algorithm", Words, "secret", "how secrets that are only compared are stored", func(p *Plan, vs *values) {
		for i, h := range p.Security.Hashing {
			for _, of := range h.Of {
				vs.add(of, h.Algorithm, fmt.Sprintf("security.hashing[%d].algorithm", i))
			}
		}
	}},
	{"hashing.work-factor", Count, "secret", "the work factor of the hash of secrets", func(p *Plan, vs *values) {
		for i, h := range p.Security.Hashing {
			for _, of := range h.Of {
				if h.WorkFactor > 0 {
					vs.add(of, strconv.Itoa(h.WorkFactor), fmt.Sprintf("security.hashing[%d].work_factor", i))
				}
			}
		}
	}},
	{"patching.critical", Time, "", "how soon a critical weakness is mended", patching("critical", func(p *Patching) Span { return p.Critical })},
	{"patching.high", Time, "", "how soon a high weakness is mended", patching("high", func(p *Patching) Span { return p.High })},
	{"patching.low", Time, "", "how soon a low weakness is mended", patching("low", func(p *Patching) Span { return p.Low })},
	{"patching.medium", Time, "", "how soon a medium weakness is mended", patching("medium", func(p *Patching) Span { return p.Medium })},
	{"tls.minimum", Version, "traffic", "lowest version of TLS that is answered", func(p *Plan, vs *values) {
		for i, t := range p.Security.TLS {
			vs.add(t.For, t.Minimum, fmt.Sprintf("security.tls[%d].minimum", i))
		}
	}},
}

// dutySubjects are the periods of what is done again and again.
func dutySubjects() (out []Subject) {
	for _, d := range []struct{ kind, says string }{
		{"access-review", "permissions are reviewed"}, {"attestation", "an attestation is renewed"}, {"backup-test", "restoring is exercised"},
		{"client-update", "clients hear how it stands"}, {"contact-review", "contacts are checked"}, {"exercise", "the plan is exercised"},
		{"plan-review", "the plan is reviewed"}, {"post-incident-review", "an incident is reviewed"}, {"runbook-review", "runbooks are reviewed"},
		{"supplier-review", "suppliers are reviewed"}, {"vulnerability-assessment", "weaknesses are looked for"},
	} {
		out = append(out, Subject{d.kind + ".interval", Time, "duty", "how often " + d.says, func(p *Plan, vs *values) {
			for i := range p.Duties {
				if duty := &p.Duties[i]; duty.Kind == d.kind {
					vs.add(duty.Name, duty.Every.String(), fmt.Sprintf("duties[%d].every", i), duty.Of...)
				}
			}
			if d.kind == "runbook-review" {
				for i, r := range p.Runbooks {
					vs.add(r.Name, r.ReviewEvery.String(), fmt.Sprintf("runbooks[%d].review_every", i), r.For...)
				}
			}
			if d.kind == "supplier-review" {
				p.eachSupplier(func(s *Supplier, at string) {
					vs.add(s.Name, s.ReviewEvery.String(), at+".review_every", s.Provides...)
				})
			}
		}})
	}
	return out
}

func counting(list string, count func(*Plan) int) func(*Plan, *values) {
	return func(p *Plan, vs *values) { vs.add("", strconv.Itoa(count(p)), list) }
}

func patching(name string, of func(*Patching) Span) func(*Plan, *values) {
	return func(p *Plan, vs *values) { vs.add("", of(&p.Security.Patching).String(), "security.patching."+name) }
}

func (p *Plan) cipher(vs *values, of string, own *Cipher, at string, also []string) {
	switch {
	case own != nil && own.Algorithm != "":
		vs.add(of, own.Algorithm, at+".encryption.algorithm", also...)
	case p.Security.Encryption != nil:
		vs.add(of, p.Security.Encryption.Algorithm, "security.encryption.algorithm", also...)
	}
}

func said(b *bool) string {
	switch {
	case b == nil:
		return ""
	case *b:
		return "yes"
	}
	return "no"
}

// eachFunction also gives the names of the nodes it runs on and of the clients
// it serves, as a promise may be made of those.
func (p *Plan) eachFunction(visit func(f *Function, at string, also []string)) {
	for i := range p.Functions {
		f := &p.Functions[i]
		also := slices.Clone(f.Host)
		for _, c := range p.Clients {
			if slices.Contains(c.Functions, f.Name) {
				also = append(also, c.Name)
			}
		}
		visit(f, fmt.Sprintf("functions[%d]", i), also)
	}
}

func (p *Plan) eachBackup(visit func(b *Backup, at string, also []string)) {
	for i := range p.Backups {
		b := &p.Backups[i]
		visit(b, fmt.Sprintf("backups[%d]", i), slices.Concat(b.Functions, b.Data))
	}
}

func (p *Plan) eachTarget(visit func(b *Backup, t *BackupTarget, at string, also []string)) {
	p.eachBackup(func(b *Backup, at string, also []string) {
		for i := range b.To {
			visit(b, &b.To[i], fmt.Sprintf("%s.to[%d]", at, i), also)
		}
	})
}

func (p *Plan) eachNode(visit func(n *Node, at string)) {
	for i := range p.Nodes {
		visit(&p.Nodes[i], fmt.Sprintf("nodes[%d]", i))
	}
}

func (p *Plan) eachSupplier(visit func(s *Supplier, at string)) {
	for i := range p.Suppliers {
		visit(&p.Suppliers[i], fmt.Sprintf("suppliers[%d]", i))
	}
}

// TargetCountry is where a backup lies, and the part of its path that says so;
// "" when nothing does.
func (p *Plan) TargetCountry(t *BackupTarget) (country, path string) {
	if t.Country != "" {
		return t.Country, ".country"
	}
	if s := p.Site(t.Site); s != nil && s.Country != "" {
		return s.Country, ".site"
	}
	if n := p.Node(t.Node); n != nil {
		return p.Country(n), ".node"
	}
	return "", ""
}

// TargetSupplier is with whom a backup lies: the target's own supplier, or its
// node's, or its site's.
func (p *Plan) TargetSupplier(t *BackupTarget) string {
	if t.Supplier != "" {
		return t.Supplier
	}
	if n := p.Node(t.Node); n != nil && n.Supplier != "" {
		return n.Supplier
	}
	if s := p.Site(t.Site); s != nil {
		return s.Supplier
	}
	return ""
}
