package plan

// Function finds a function by name, or nil.
func (p *Plan) Function(name string) *Function {
	return find(p, "function", p.Functions, name, func(f *Function) string { return f.Name })
}

// Node finds a node by name, or nil.
func (p *Plan) Node(name string) *Node {
	return find(p, "node", p.Nodes, name, func(n *Node) string { return n.Name })
}

// Supplier finds a supplier by name, or nil.
func (p *Plan) Supplier(name string) *Supplier {
	return find(p, "supplier", p.Suppliers, name, func(s *Supplier) string { return s.Name })
}

// Site finds a site by name, or nil.
func (p *Plan) Site(name string) *Site {
	return find(p, "site", p.Sites, name, func(s *Site) string { return s.Name })
}

// Person finds a person by name, or nil.
func (p *Plan) Person(name string) *Person {
	return find(p, "person", p.People, name, func(x *Person) string { return x.Name })
}

// RecoveryPlan finds a recovery plan by name, or nil.
func (p *Plan) RecoveryPlan(name string) *RecoveryPlan {
	return find(p, "recovery", p.Recovery, name, func(r *RecoveryPlan) string { return r.Name })
}

// Runbook finds a runbook by name, or nil.
func (p *Plan) Runbook(name string) *Runbook {
	return find(p, "runbook", p.Runbooks, name, func(r *Runbook) string { return r.Name })
}

// Notice finds a notice rule by name, or nil.
func (p *Plan) Notice(name string) *Notice {
	return find(p, "notice", p.Notices, name, func(n *Notice) string { return n.Name })
}

// DataClass finds a class of data by name, or nil.
func (p *Plan) DataClass(name string) *DataClass {
	return find(p, "data", p.Data, name, func(d *DataClass) string { return d.Name })
}

// Country is where a node stands: its own, or its site's; "" when neither says.
func (p *Plan) Country(n *Node) string {
	if n.Country != "" {
		return n.Country
	}
	if s := p.Site(n.Site); s != nil {
		return s.Country
	}
	return ""
}

// BackupsOf lists the backups that cover a function: by its name, or by every
// class of its data.
func (p *Plan) BackupsOf(f *Function) (out []*Backup) {
	for i := range p.Backups {
		b := &p.Backups[i]
		if covers(b, f) {
			out = append(out, b)
		}
	}
	return out
}

func covers(b *Backup, f *Function) bool {
	for _, name := range b.Functions {
		if name == f.Name {
			return true
		}
	}
	for _, class := range b.Data {
		for _, has := range f.Data {
			if class == has {
				return true
			}
		}
	}
	return false
}

// OperatorsOf lists who recovers a function.
func (p *Plan) OperatorsOf(f *Function) []string {
	if len(f.Operators) > 0 {
		return f.Operators
	}
	return p.Organisation.Operators
}

// IsCritical reports whether the plan counts a function as critical: it says
// so, or says nothing and gives it a maximum tolerable downtime.
func (f *Function) IsCritical() bool {
	if f.Critical != nil {
		return *f.Critical
	}
	return f.MTD.Known()
}

// find looks a name up; where the plan was made or changed by hand, and not
// read, the list itself is searched.
func find[T any](p *Plan, kind string, list []T, name string, of func(*T) string) *T {
	if name == "" {
		return nil
	}
	if i, ok := p.names[kind][name]; ok && i < len(list) && of(&list[i]) == name {
		return &list[i]
	}
	for i := range list {
		if of(&list[i]) == name {
			return &list[i]
		}
	}
	return nil
}
