package console_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestALinkThatTakesNoCallSaysSoAndNobodyElsesFormTakesOne(t *testing.T) {
	w := node(t)
	v := &visitor{w: w}
	status, header, body := v.do(t, http.MethodGet, "/oncall", "")
	if status != http.StatusOK || !strings.Contains(body, `data-fragment="token"`) || header.Get("X-Frame-Options") != "DENY" || header.Get("Cache-Control") != "no-store" {
		t.Fatalf("%d %v", status, header)
	}
	for _, path := range []string{"/oncall", "/oncall/take"} {
		status, _, body := v.do(t, http.MethodPost, path, url.Values{"token": {"https://x.example/oncall#0190a1b2-0000-7000-8000-000000000000.ada.AAAA"}}.Encode())
		if status != http.StatusNotFound || !strings.Contains(body, "This link takes no call") {
			t.Errorf("%s: %d", path, status)
		}
		if status, _, _ := v.do(t, http.MethodPost, path, "token=x", "Sec-Fetch-Site", "cross-site"); status != http.StatusForbidden {
			t.Errorf("%s from another site: %d", path, status)
		}
	}
}
