package mirror_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"encoding/pem"
	"os"
	"path/filepath"

	"github.com/missionopsai/foundry/internal/backup/mirror"
	"github.com/missionopsai/foundry/internal/backup/targettest"
)

func giteaOf(t *testing.T, g *targettest.GiteaSimulator) mirror.GiteaConfig {
	return mirror.GiteaConfig{URL: g.URL, Token: secret(t, g.Token), CA: g.CA, Private: true}
}

func TestEveryRepositoryOfAGiteaIsFoundAndMirroredFromTheServerItself(t *testing.T) {
	t.Parallel()
	g := targettest.StartGiteaSimulator(t)
	for _, name := range []string{"platform/app", "platform/site", "clients/one", "clients/two", "ops/runbooks"} {
		g.Repository(t, name, false, false)
	}
	g.Repository(t, "me/private", true, false)
	g.Repository(t, "me/empty", true, true)
	all, err := mirror.Discover(t.Context(), giteaOf(t, g), "backup.gitea")
	must(t, err)
	var names []string
	for _, r := range all {
		names = append(names, r.Name)
	}
	if got := strings.Join(names, " "); got != "clients+one clients+two me+private ops+runbooks platform+app platform+site" {
		t.Errorf("found %s", got)
	}
	m := newMirrors(t)
	for _, r := range all {
		if s, err := m.Fetch(t.Context(), r); err != nil || s.Refs != 1 || !strings.HasPrefix(s.URL, g.URL) {
			t.Errorf("%s: %+v %v (%v)", r, s, err, errors.Unwrap(err))
		}
	}
	c := giteaOf(t, g)
	c.Owners = []string{"Clients"}
	if some, err := mirror.Discover(t.Context(), c, "f"); err != nil || len(some) != 2 {
		t.Errorf("of one owner: %v %v", some, err)
	}
}

func TestAGiteaThatRefusesOrLiesIsNamed(t *testing.T) {
	t.Parallel()
	g := targettest.StartGiteaSimulator(t)
	g.Repository(t, "a/b", false, false)
	c := giteaOf(t, g)
	c.Token = secret(t, "guess")
	_, err := mirror.Discover(t.Context(), c, "f")
	refuses(t, err, "gitea-credentials")
	c = giteaOf(t, g)
	c.Private = false
	_, err = mirror.Discover(t.Context(), c, "f")
	refuses(t, err, "mirror-address")
	c = giteaOf(t, g)
	c.URL = "http://example.org"
	_, err = mirror.Discover(t.Context(), c, "f")
	refuses(t, err, "gitea-url")
	for name, answer := range map[string]string{
		"a page of something else":     "<html>",
		"a name that climbs":           `[{"name":"..","owner":{"login":"a"}}]`,
		"a name that is an option":     `[{"name":"--upload-pack=x","owner":{"login":"a"}}]`,
		"a list that never ends":       `[{"name":"same","owner":{"login":"a"}}]`,
		"an answer that is not ok":     `{"ok":false,"data":[]}`,
		"a redirect to another server": "redirect",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if answer == "redirect" {
					http.Redirect(w, r, "https://169.254.169.254/", http.StatusFound)
					return
				}
				_, _ = w.Write([]byte(answer))
			}))
			defer server.Close()
			ca := filepath.Join(t.TempDir(), "ca")
			must(t, os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}), 0o600))
			_, err := mirror.Discover(t.Context(), mirror.GiteaConfig{URL: server.URL, CA: ca, Token: secret(t, "x"), Private: true}, "f")
			if answer == "redirect" {
				refuses(t, err, "gitea-refused")
			} else {
				refuses(t, err, "gitea-answer")
			}
		})
	}
}
