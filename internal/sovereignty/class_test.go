package sovereignty

import "testing"

func TestStricterClass(t *testing.T) {
	for _, c := range []struct {
		name                      string
		floor, requested, highest DataClass
		want                      DataClass
	}{
		{"a header above the key's floor wins", Internal, Confidential, Restricted, Confidential},
		{"the key's floor wins over a laxer header", Confidential, Public, Restricted, Confidential},
		{"no header means the organisation's highest", Public, 0, Confidential, Confidential},
		{"no header and a floor above the organisation's highest means the floor", Restricted, 0, Internal, Restricted},
		{"no header and no known highest means restricted", Public, 0, 0, Restricted},
		{"nothing known at all means restricted", 0, 0, 0, Restricted},
		{"a key without a floor takes the header", 0, Public, Restricted, Public},
		{"a header below the organisation's highest is believed", 0, Internal, Restricted, Internal},
		{"an impossible header means restricted", 0, 9, Internal, Restricted},
		{"an impossible floor means restricted", 200, Public, Internal, Restricted},
		{"an impossible highest means restricted", 0, 0, 77, Restricted},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := StricterClass(c.floor, c.requested, c.highest); got != c.want {
				t.Errorf("got %s, want %s", got, c.want)
			}
		})
	}
}

func TestDataClassText(t *testing.T) {
	for c := Public; c <= Restricted; c++ {
		text, err := c.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		var back DataClass
		if err := back.UnmarshalText(text); err != nil || back != c {
			t.Errorf("%s read back as %s, %v", text, back, err)
		}
	}
	for _, bad := range []string{"", "unset", "Public", "secret", "restricted ", "1"} {
		if c, err := ParseDataClass(bad); err == nil {
			t.Errorf("%q was accepted as %s", bad, c)
		}
	}
	if DataClass(0).String() != "unset" || DataClass(9).String() != "unknown" {
		t.Error("classes outside the four have names of their own")
	}
}
