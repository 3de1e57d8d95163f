package targettest

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
)

// GiteaSimulator answers as a Gitea server does, as far as its documentation
// says (docs.gitea.com/api: repoSearch, userCurrentListRepos, pagination,
// token authentication), and serves the repositories of a Git server. It is
// no Gitea: what that does beyond its documentation is not found out with it.
type GiteaSimulator struct {
	URL   string
	CA    string
	Token string
	Git   *Git
	// Page is the most entries that it gives to a page, whatever is asked for.
	Page  int
	Asked []string

	all, own []map[string]any
}

// StartGiteaSimulator starts a simulator in front of a Git server.
func StartGiteaSimulator(t testing.TB) *GiteaSimulator {
	t.Helper()
	g := &GiteaSimulator{Git: StartGit(t), Token: "gitea-token-91ab", Page: 3}
	g.Git.User, g.Git.Password = "git", g.Token
	git := g.Git.server.Config.Handler
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		list, wrapped := g.own, false
		switch r.URL.Path {
		case "/api/v1/repos/search":
			list, wrapped = g.all, true
		case "/api/v1/user/repos":
		default:
			git.ServeHTTP(w, r)
			return
		}
		g.Asked = append(g.Asked, r.URL.String())
		if r.Header.Get("Authorization") != "token "+g.Token {
			http.Error(w, `{"message":"user does not exist [uid: 0, name: ]"}`, http.StatusUnauthorized)
			return
		}
		page, _ := strconv.Atoi(r.URL.Query().Get("page"))
		from := min((max(page, 1)-1)*g.Page, len(list))
		part := list[from:min(from+g.Page, len(list))]
		w.Header().Set("Content-Type", "application/json;charset=utf-8")
		w.Header().Set("X-Total-Count", strconv.Itoa(len(list)))
		if wrapped {
			_ = json.NewEncoder(w).Encode(map[string]any{"ok": true, "data": part})
			return
		}
		_ = json.NewEncoder(w).Encode(part)
	}))
	t.Cleanup(server.Close)
	g.URL = server.URL
	g.CA = g.Git.CA // both are the certificate of net/http/httptest
	return g
}

// Repository makes a repository of an owner. own says that it is the token's user's.
func (g *GiteaSimulator) Repository(t testing.TB, full string, own, empty bool) (path string) {
	t.Helper()
	owner, name, _ := strings.Cut(full, "/")
	// The address that a server gives of itself may be wrong, or lead elsewhere.
	entry := map[string]any{"id": len(g.all) + 1, "name": name, "full_name": full, "empty": empty, "private": own, "owner": map[string]any{"login": owner},
		"clone_url": "https://169.254.169.254/" + full + ".git", "default_branch": "main", "size": 24}
	if own {
		g.own = append(g.own, entry)
	} else {
		g.all = append(g.all, entry)
	}
	path = g.Git.Repository(t, full+".git")
	if !empty {
		Commit(t, path, "main", "README.md", full)
	}
	return path
}
