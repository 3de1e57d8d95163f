package mirror

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/missionopsai/foundry/internal/config"
	"github.com/missionopsai/foundry/internal/problem"
)

// GiteaConfig names a Gitea server whose repositories are all mirrored. Issues,
// requests, releases' files, wikis and users are not: they are in Gitea's
// database and storage, and belong into a backup made where it runs.
type GiteaConfig struct {
	URL     string          `yaml:"url" json:"url" jsonschema:"description=Address of the server\\, https only."`
	User    string          `yaml:"user,omitempty" json:"user,omitempty" jsonschema:"description=Whose token it is. Default git."`
	Token   config.Secret   `yaml:"token" json:"token,omitzero" jsonschema:"description=Access token with the scopes read:repository and read:user."`
	CA      string          `yaml:"ca,omitempty" json:"ca,omitempty" jsonschema:"description=PEM file with the authority of the server's certificate."`
	Owners  []string        `yaml:"owners,omitempty" json:"owners,omitempty" jsonschema:"description=Only repositories of these users and organisations. Default: all that the token may see."`
	MaxAge  config.Duration `yaml:"max_age,omitempty" json:"max_age,omitempty" jsonschema:"description=How old the last successful fetch of each may be. Default 26h."`
	MaxMB   int64           `yaml:"max_mb,omitempty" json:"max_mb,omitempty" jsonschema:"minimum=0,description=How large each mirror may become. Default 20480."`
	Private bool            `yaml:"private,omitempty" json:"private,omitempty" jsonschema:"description=The server stands in a private network or on this machine. Refused otherwise."`
}

// Names reports whether a repository's address is one of this server's, and of
// the owners that are mirrored.
func (c GiteaConfig) Names(address string) bool {
	rest, ok := strings.CutPrefix(address, strings.TrimRight(c.URL, "/")+"/")
	owner, name, two := strings.Cut(rest, "/")
	return ok && two && strings.HasSuffix(name, ".git") && (len(c.Owners) == 0 || slices.ContainsFunc(c.Owners, func(o string) bool { return strings.EqualFold(o, owner) }))
}

// Bounds of what a Gitea may answer.
const (
	giteaPage         = 50
	giteaPages        = 400
	giteaAnswer       = 16 << 20
	giteaRepositories = 10000
)

// giteaRepository is what is read of an entry of the API
// (docs.gitea.com/api, definition Repository).
type giteaRepository struct {
	Name     string `json:"name"`
	FullName string `json:"full_name"`
	Empty    bool   `json:"empty"`
	Owner    struct {
		Login string `json:"login"`
	} `json:"owner"`
}

// giteaName is what Gitea allows for owners and repositories (AlphaDashDot).
var giteaName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,99}$`)

// parseGitea reads a page: a list, or an object with a list in data.
func parseGitea(text []byte) ([]giteaRepository, error) {
	var list []giteaRepository
	if strings.HasPrefix(strings.TrimSpace(string(text)), "{") {
		var page struct {
			OK   bool              `json:"ok"`
			Data []giteaRepository `json:"data"`
		}
		if err := json.Unmarshal(text, &page); err != nil {
			return nil, err
		}
		if !page.OK {
			return nil, errors.New("the answer is not ok")
		}
		list = page.Data
	} else if err := json.Unmarshal(text, &list); err != nil {
		return nil, err
	}
	for _, r := range list {
		if !giteaName.MatchString(r.Name) || !giteaName.MatchString(r.Owner.Login) || strings.Contains(r.Name+r.Owner.Login, "..") {
			return nil, errors.New("the answer names a repository that cannot be")
		}
	}
	return list, nil
}

// Discover lists the repositories of a Gitea that have anything in them: those
// that its search finds and those of the token's own user. Their addresses are
// made from the server's, not taken from its answers.
func Discover(ctx context.Context, c GiteaConfig, field string) ([]Repository, error) {
	base, err := url.Parse(c.URL)
	if err != nil || base.Scheme != "https" || base.Host == "" || base.User != nil || base.RawQuery != "" {
		return nil, problem.New(problem.Invalid, "gitea-url", "This is not the address of a Gitea server.").WithField(field + ".url").WithMend("Write https://host, with the path if it has one.")
	}
	token, err := c.Token.Read(field + ".token")
	if err != nil {
		return nil, err
	}
	client, err := c.client(field)
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	found := map[string]giteaRepository{}
	for _, path := range []string{"/api/v1/repos/search", "/api/v1/user/repos"} {
		if err := c.pages(ctx, client, base, path, token, found); err != nil {
			return nil, err
		}
	}
	var out []Repository
	for _, r := range found {
		if r.Empty || len(c.Owners) > 0 && !slices.ContainsFunc(c.Owners, func(o string) bool { return strings.EqualFold(o, r.Owner.Login) }) {
			continue
		}
		out = append(out, Repository{password: token, Config: Config{
			Name: r.Owner.Login + "+" + r.Name, URL: base.JoinPath(r.Owner.Login, r.Name+".git").String(), User: c.User,
			CA: c.CA, MaxAge: c.MaxAge, MaxMB: c.MaxMB, Private: c.Private,
		}})
	}
	slices.SortFunc(out, func(a, b Repository) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func (c GiteaConfig) client(field string) (*http.Client, error) {
	tc := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		text, err := os.ReadFile(c.CA)
		tc.RootCAs = x509.NewCertPool()
		if err != nil || !tc.RootCAs.AppendCertsFromPEM(text) {
			return nil, problem.New(problem.Invalid, "gitea-ca", "The authority of the Gitea server cannot be read: "+c.CA+".").WithField(field + ".ca").WithMend("Name a PEM file with its certificate.").Wrap(err)
		}
	}
	return &http.Client{
		Timeout:       time.Minute,
		Transport:     &http.Transport{DialContext: dialer(c.Private).DialContext, TLSClientConfig: tc, TLSHandshakeTimeout: 15 * time.Second},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// pages reads every page of a list. A server that repeats itself for ever ends
// at a bound.
func (c GiteaConfig) pages(ctx context.Context, client *http.Client, base *url.URL, path, token string, found map[string]giteaRepository) error {
	for page := 1; page <= giteaPages; page++ {
		u := base.JoinPath(path)
		u.RawQuery = url.Values{"limit": {strconv.Itoa(giteaPage)}, "page": {strconv.Itoa(page)}}.Encode()
		list, err := ask(ctx, client, u, token)
		if err != nil {
			return err
		}
		for _, r := range list {
			found[strings.ToLower(r.Owner.Login+"/"+r.Name)] = r
		}
		switch {
		case len(found) > giteaRepositories:
			return problem.New(problem.TooLarge, "gitea-too-many", fmt.Sprintf("The Gitea server names more than %d repositories.", giteaRepositories)).WithMend("Name the owners to be mirrored.")
		case len(list) == 0: // a server may give fewer to a page than asked for
			return nil
		}
	}
	return problem.New(problem.Upstream, "gitea-answer", "The Gitea server's list does not end.").WithMend("Look at what it answers under " + path + ".")
}

func ask(ctx context.Context, client *http.Client, u *url.URL, token string) ([]giteaRepository, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "token "+token)
	req.Header.Set("Accept", "application/json")
	a, err := client.Do(req)
	switch {
	case errors.Is(err, errForbidden):
		return nil, forbidden(u.Hostname())
	case err != nil && ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case err != nil:
		return nil, problem.New(problem.Unavailable, "gitea-gone", "The Gitea server cannot be reached.").WithMend("Check that it runs, and the address and authority in the configuration.").WithRetry(time.Minute).Wrap(err)
	}
	defer a.Body.Close()
	text, err := io.ReadAll(io.LimitReader(a.Body, giteaAnswer))
	switch {
	case a.StatusCode == http.StatusUnauthorized || a.StatusCode == http.StatusForbidden:
		return nil, problem.New(problem.Unauthenticated, "gitea-credentials", "The Gitea server does not accept the token.").WithField("token").WithMend("Make one with the scopes read:repository and read:user.")
	case a.StatusCode != http.StatusOK || err != nil:
		return nil, problem.New(problem.Upstream, "gitea-refused", fmt.Sprintf("The Gitea server answers %d.", a.StatusCode)).WithMend("Check the address; a path that it is served below belongs to it.").Wrap(err)
	}
	list, err := parseGitea(text)
	if err != nil {
		return nil, problem.New(problem.Upstream, "gitea-answer", "What the Gitea server answers cannot be read.").WithMend("Is it a Gitea or Forgejo server?").Wrap(err)
	}
	return list, nil
}
