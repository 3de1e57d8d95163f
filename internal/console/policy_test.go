package console_test

import (
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
)

// policyForm is the form of an organisation's policy as the page shows it.
func policyForm(t *testing.T, v *visitor, path string) url.Values {
	t.Helper()
	status, body := v.get(t, path)
	if status != http.StatusOK {
		t.Fatalf("the page answers %d", status)
	}
	f := url.Values{}
	for _, m := range regexp.MustCompile(`<input[^>]* name="([^"]+)"[^>]* value="([^"]*)"`).FindAllStringSubmatch(body, -1) {
		f.Set(m[1], m[2])
	}
	for _, m := range regexp.MustCompile(`(?s)<select[^>]* name="([^"]+)".*?</select>`).FindAllStringSubmatch(body, -1) {
		if chosen := regexp.MustCompile(`value="([^"]*)" selected`).FindStringSubmatch(m[0]); chosen != nil {
			f.Set(m[1], chosen[1])
		}
	}
	f.Del("back")
	return f
}

func TestAPolicyIsChangedInSentences(t *testing.T) {
	w := node(t)
	v := w.visitor(t)
	v.do(t, http.MethodPost, "/console/organisations", "name=policy-clinic")
	const path = "/console/organisations/policy-clinic/policy"
	post := func(f url.Values, do string) (int, string) {
		f.Set("do", do)
		status, _, body := v.do(t, http.MethodPost, path, f.Encode())
		return status, body
	}
	form := policyForm(t, v, path)
	if form.Get("allowed") != "EEA" || form.Get("third_parties") != "false" || form.Get("version") == "" {
		t.Fatalf("the form is %v", form)
	}
	if status, body := post(form, "compare"); status != 200 || !strings.Contains(body, "Nothing changes.") || strings.Contains(body, "Set this policy") {
		t.Errorf("the same policy answers %d", status)
	}
	form.Set("allowed", "EEA, US")
	form.Set("third_parties", "true")
	status, body := post(form, "compare")
	for _, want := range []string{"This lets data go further than before.", "Countries are added.", "Providers outside the fleet become allowed.", "No longer", "the United States (US)", "Set this policy"} {
		if status != 200 || !strings.Contains(body, want) {
			t.Errorf("comparing answers %d without %q", status, want)
		}
	}
	if _, body := v.get(t, "/console/organisations/policy-clinic"); strings.Contains(body, "United States") {
		t.Error("comparing changed the policy")
	}
	if status, _ := post(form, "set"); status != http.StatusSeeOther {
		t.Fatalf("setting answers %d", status)
	}
	if _, body := v.get(t, "/console/organisations/policy-clinic"); !strings.Contains(body, "the United States (US)") {
		t.Error("the policy was not changed")
	}
	// The form from before was about another policy: it overwrites nothing.
	form.Set("allowed", "FI")
	form.Set("home", "FI")
	if status, body := post(form, "set"); status != http.StatusConflict || !strings.Contains(body, "Somebody else changed this policy meanwhile.") || !strings.Contains(body, `value="FI"`) {
		t.Errorf("an old form answers %d", status)
	}
	if _, body := v.get(t, "/console/organisations/policy-clinic"); !strings.Contains(body, "the United States (US)") {
		t.Error("an old form overwrote a newer policy")
	}
	if _, body := v.get(t, "/console/audit?act=policy.set&organisation=policy-clinic"); strings.Count(body, "policy.set") < 2 {
		t.Error("the change is not in the audit log")
	}
}

func TestWhatIsWrongWithAPolicyIsSaidAtItsField(t *testing.T) {
	v := node(t).visitor(t)
	const path = "/console/organisations/harbour-authority/policy"
	for field, value := range map[string]string{"allowed": "Atlantis", "home": "US", "regime": "XX", "ceilings.near": "restricted", "ceilings.own": "secret", "allowed_features": "no/feature"} {
		form := policyForm(t, v, path)
		if field == "ceilings.near" {
			form.Set("ceilings.own", "public")
		}
		form.Set(field, value)
		form.Set("do", "set")
		status, _, body := v.do(t, http.MethodPost, path, form.Encode())
		if status != http.StatusBadRequest || !strings.Contains(body, `id="`+field+`-wrong"`) {
			t.Errorf("%s=%s answers %d without saying so at the field", field, value, status)
		}
	}
}
