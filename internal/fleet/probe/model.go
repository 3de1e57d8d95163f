package probe

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
)

// model asks for one token of text. What it says is read for being there and
// is not kept.
func (l *look) model(ctx context.Context) finding {
	e := Endpoint{}
	switch {
	case l.t.URL != nil:
		e.URL = l.t.URL.String()
		if l.env.Login != nil {
			login, ok, err := l.env.Login(ctx, l.spec)
			if err != nil {
				return unknown(Credentials, "What to sign in to %s with cannot be read on this node.", l.t.place())
			}
			if ok {
				e.Key = login.Password
			}
		}
	case l.env.Model == nil:
		return unknown(NotAvailable, "This node does not know where %s answers.", l.t.Rest)
	default:
		var err error
		if e, err = l.env.Model(ctx, l.t.Rest); err != nil || e.URL == "" {
			return unknown(NotAvailable, "This node does not know where %s answers.", l.t.Rest)
		}
	}
	base, err := url.Parse(strings.TrimSuffix(e.URL, "/"))
	if err != nil || base.Host == "" || base.Scheme != "https" && base.Scheme != "http" {
		return unknown(BadTarget, "The address of the models of %s is no URL.", l.t.place())
	}
	name := l.t.word("model", e.Model)
	if name == "" {
		var f finding
		if name, f = l.firstModel(ctx, base, e); name == "" {
			return f
		}
	}
	l.fact("model", name)
	body, _ := json.Marshal(map[string]any{"model": name, "max_tokens": 1, "temperature": 0,
		"messages": []map[string]string{{"role": "user", "content": "Say yes."}}}) // strings and numbers cannot fail
	a, f := l.askModel(ctx, base, e, http.MethodPost, "/chat/completions", body)
	if f.code != "" {
		return f
	}
	if !saysText(a.body) {
		return bad(NoText, "%s answers, but its model %s gives no text.", l.t.place(), clean(name, 80))
	}
	return good("The model %s of %s answers with text.", clean(name, 80), l.t.place())
}

// saysText reports whether an answer holds any text.
func saysText(body []byte) bool {
	var answer struct {
		Choices []struct {
			Message struct {
				Content   string `json:"content"`
				Reasoning string `json:"reasoning"`
				Thinking  string `json:"reasoning_content"`
			} `json:"message"`
		} `json:"choices"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return false
	}
	for _, c := range answer.Choices {
		// A model that thinks first says its one token there.
		if strings.TrimSpace(c.Message.Content+c.Message.Reasoning+c.Message.Thinking) != "" {
			return true
		}
	}
	return false
}

// firstModel is the first model that a server lists.
func (l *look) firstModel(ctx context.Context, base *url.URL, e Endpoint) (string, finding) {
	a, f := l.askModel(ctx, base, e, http.MethodGet, "/models", nil)
	if f.code != "" {
		return "", f
	}
	var list struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if json.Unmarshal(a.body, &list) != nil {
		return "", bad(Protocol, "What %s answers is no list of models.", l.t.place())
	}
	for _, m := range list.Data {
		if m.ID != "" && len(m.ID) <= 512 && !strings.Contains(strings.ToLower(m.ID), "embed") {
			return m.ID, finding{}
		}
	}
	return "", bad(NoText, "%s lists no model that gives text.", l.t.place())
}

// askModel sends one request. A finding with a code ends the look.
func (l *look) askModel(ctx context.Context, base *url.URL, e Endpoint, method, path string, body []byte) (answer, finding) {
	u := *base
	u.Path, u.RawPath = u.Path+path, ""
	p, err := l.resolve(ctx, u.Hostname(), urlPort(&u))
	if err != nil {
		return answer{}, because(err, "Resolving")
	}
	header := http.Header{"Content-Type": {"application/json"}}
	if e.Key != "" {
		if u.Scheme == "http" && !onThisMachine(p) {
			return answer{}, unknown(Credentials, "%s is asked in the clear, and a key is not sent that way.", l.t.place())
		}
		header["Authorization"] = []string{"Bearer " + e.Key}
	}
	asks := l.asks(p)
	asks.extra = e.TLS
	if e.TLS != nil && e.TLS.ServerName != "" {
		asks.name = e.TLS.ServerName
	}
	a, err := l.exchange(ctx, &u, p, method, header, body, &asks)
	if err != nil {
		return answer{}, because(err, "Asking "+l.t.place())
	}
	l.fact("status", strconv.Itoa(a.status))
	switch {
	case a.status == http.StatusUnauthorized || a.status == http.StatusForbidden:
		return answer{}, bad(Credentials, "%s refuses what this node signs in with (%d).", l.t.place(), a.status)
	case a.status == http.StatusTooManyRequests || a.status == http.StatusServiceUnavailable:
		return answer{}, bad(Busy, "%s takes no more requests for now (%d).", l.t.place(), a.status)
	case a.status != http.StatusOK:
		return answer{}, bad(BadStatus, "%s answers %d%s.", l.t.place(), a.status, statusText(a.status))
	case a.readErr != nil:
		code, why := classify(a.readErr)
		return answer{}, bad(code, "The answer of %s does not come to an end: %s.", l.t.place(), why)
	case a.cut:
		return answer{}, bad(TooMuch, "The answer of %s is longer than %d KiB.", l.t.place(), maxBody>>10)
	}
	return a, finding{}
}

func statusText(status int) string {
	if t := http.StatusText(status); t != "" {
		return fmt.Sprintf(" (%s)", strings.ToLower(t))
	}
	return ""
}

func onThisMachine(p place) bool {
	for _, a := range p.addrs {
		if !a.IsLoopback() {
			return false
		}
	}
	return len(p.addrs) > 0
}
