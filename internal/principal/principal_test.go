package principal

import "testing"

func TestEveryRoleIsFoundByItsName(t *testing.T) {
	for _, r := range AllRoles() {
		if got, ok := ParseRole(r.String()); !ok || got != r {
			t.Errorf("ParseRole(%q) = %v, %v", r, got, ok)
		}
	}
	if _, ok := ParseRole("role-9"); ok {
		t.Error("a name that no role has was found")
	}
}

func TestASetHoldsWhatWasPutIn(t *testing.T) {
	s := RolesOf(Auditor, Viewer)
	if !s.Has(Auditor) || !s.Has(Viewer) || s.Has(Developer) || s.String() != "viewer,auditor" {
		t.Errorf("got %s", s)
	}
	if s.Administrative() || !RolesOf(Viewer, PlatformSecurity).Administrative() {
		t.Error("a second factor is asked of the wrong roles")
	}
}

func TestAnActorsNameHoldsNoPersonalData(t *testing.T) {
	for want, p := range map[string]Principal{
		"local:uid=7":    {Kind: Local, UID: 7},
		"system:shipper": Node("shipper"),
		"person:0190":    {Kind: Person, ID: "0190", Session: "abc"},
	} {
		if p.String() != want {
			t.Errorf("got %s, want %s", p, want)
		}
	}
}
