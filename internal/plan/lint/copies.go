package lint

import (
	"fmt"
	"slices"

	"github.com/missionopsai/foundry/internal/plan"
)

// copyRules judge whether data have copies, and whether these outlive them.
var copyRules = []Rule{
	{
		ID: "data-without-backup", Title: "Data that nothing copies", Group: "fallbacks", Severity: Error,
		Why:    "They are gone with the disk they lie on, by a mistake or by an intruder; a replica deletes what is deleted.",
		Mend:   "Name them in a backup (data:), or say from what they are made again (rebuilt_from:).",
		Source: "NIST SP 800-34 r1, 3.4.2; ISO/IEC 27001:2022, A.8.13",
		check:  dataWithoutBackup,
	},
	{
		ID: "backup-unplaced", Title: "Nothing says where a backup lies", Group: "fallbacks", Severity: Warning,
		Why:    "Whether a backup outlives what it copies, in whose hands it is and under which law, cannot be said of one without a place.",
		Mend:   "Add to: with supplier, site or node, and the country.",
		Source: "NIST SP 800-34 r1, 3.4.2",
		check:  backupUnplaced,
	},
	{
		ID: "backup-beside-data", Title: "Every copy of a backup is lost with the data", Group: "fallbacks", Severity: Error,
		Why:    "What takes the data takes the backup.",
		Mend:   "Add a second target elsewhere: another site, another account, at best another supplier.",
		Source: "NIST SP 800-34 r1, 3.4.2; ISO/IEC 27001:2022, A.8.13",
		check:  backupBesideData,
	},
	{
		ID: "backup-not-immutable", Title: "Whoever breaks in can delete the backups", Group: "fallbacks", Severity: Warning,
		Why:    "Extortion begins with the backups: what the node can write, it can usually delete, and so can whoever has taken it over.",
		Mend:   "Let at least one copy lie under object lock, or in a repository that the node can only append to (immutable: true).",
		Source: "ISO/IEC 27001:2022, A.8.13",
		check:  backupNotImmutable,
	},
}

func dataWithoutBackup(c *Context) {
	for i := range c.Data {
		d := &c.Data[i]
		if d.Rebuilt != "" || slices.ContainsFunc(c.Backups, func(b plan.Backup) bool { return slices.Contains(b.Data, d.Name) }) {
			continue
		}
		var keepers, bare []string
		critical := d.Personal
		for j := range c.Functions {
			f := &c.Functions[j]
			if !slices.Contains(f.Data, d.Name) || slices.Contains(passing, f.Kind) {
				continue
			}
			keepers = append(keepers, f.Name)
			if !slices.ContainsFunc(c.Backups, func(b plan.Backup) bool { return slices.Contains(b.Functions, f.Name) }) {
				bare, critical = append(bare, f.Name), critical || f.IsCritical()
			}
		}
		if len(keepers) > 0 && len(bare) == 0 {
			continue
		}
		where := ""
		if len(bare) > 0 {
			where = " of " + quoted(bare)
		}
		found := c.Report(at("data", i), about("data class", d.Name), "No backup copies %q%s, and nothing says that it can be made again.", d.Name, where)
		if !critical {
			found.As(Warning)
		}
	}
	for i := range c.Functions {
		f := &c.Functions[i]
		if f.RPO.Known() && len(f.Data) == 0 && len(c.BackupsOf(f)) == 0 && !slices.Contains(passing, f.Kind) && f.RPO.Longest() > 0 {
			c.Report(at("functions", i, "rpo"), about("function", f.Name), "%q has an RPO of %s, and no backup copies what it keeps.", f.Name, f.RPO).As(Warning).
				Saying("Name the function in a backup (functions:), or its data (data:) and what copies them.")
		}
	}
}

func backupUnplaced(c *Context) {
	for i := range c.Backups {
		b := &c.Backups[i]
		placed := func(t plan.BackupTarget) bool {
			return t.Supplier != "" || t.Site != "" || t.Node != "" || t.Country != ""
		}
		if !slices.ContainsFunc(b.To, placed) {
			c.Report(at("backups", i, "to"), about("backup", b.Name), "Backup %q names no supplier, site, node or country where it lies.", b.Name)
		}
	}
}

func backupBesideData(c *Context) {
	fates := c.fates()
	for i := range c.Backups {
		b := &c.Backups[i]
		if len(b.To) == 0 {
			continue
		}
		byName(c.Functions, functionName, func() func(int, *plan.Function) {
			done := false
			return func(j int, f *plan.Function) {
				if done || !slices.Contains(b.Functions, f.Name) && !slices.ContainsFunc(b.Data, func(d string) bool { return slices.Contains(f.Data, d) }) {
					return
				}
				shared := map[string]bool{}
				for k := range b.To {
					what := c.besides(&b.To[k], f, fates[f.Name])
					if what == "" {
						return
					}
					shared[what] = true
				}
				done = true
				var words []string
				for w := range shared {
					words = append(words, w)
				}
				slices.Sort(words)
				found := c.Report(at("backups", i, "to"), about("backup", b.Name), "Every copy of backup %q is lost with %s, and %q, which it copies, with it.", b.Name, listed(words), f.Name).With(at("functions", j, "host"))
				if !slices.ContainsFunc(b.To, func(t plan.BackupTarget) bool { return slices.Contains(f.Host, t.Node) }) {
					found.As(Warning)
				}
			}
		}())
	}
}

// besides is what a target shares with the whole of a function: its node, its
// site or its account; "" when it shares none of them.
func (c *Context) besides(t *plan.BackupTarget, f *plan.Function, falls fate) string {
	site := t.Site
	if n := c.Node(t.Node); n != nil {
		if falls[plan.Thing{Kind: plan.KindNode, Name: n.Name}] {
			return quotedThing(plan.Thing{Kind: plan.KindNode, Name: n.Name})
		}
		if site == "" {
			site = n.Site
		}
	}
	if thing := (plan.Thing{Kind: plan.KindSite, Name: site}); site != "" && falls[thing] {
		return quotedThing(thing)
	}
	if t.Account != "" && len(f.Host) > 0 && !slices.ContainsFunc(f.Host, func(host string) bool {
		n := c.Node(host)
		return n == nil || n.Account != t.Account || c.supplierOf(host) != c.TargetSupplier(t)
	}) {
		return fmt.Sprintf("account %q", t.Account)
	}
	return ""
}

func backupNotImmutable(c *Context) {
	for i := range c.Backups {
		b := &c.Backups[i]
		if slices.ContainsFunc(b.To, func(t plan.BackupTarget) bool { return t.Immutable != nil && *t.Immutable }) {
			continue
		}
		said := slices.ContainsFunc(b.To, func(t plan.BackupTarget) bool { return t.Immutable != nil })
		if said {
			c.Report(at("backups", i, "to"), about("backup", b.Name), "Every copy of backup %q can be deleted before its time.", b.Name)
		} else {
			c.Report(at("backups", i, "to"), about("backup", b.Name), "Nothing says that any copy of backup %q is safe from whoever takes over the node.", b.Name)
		}
	}
}
