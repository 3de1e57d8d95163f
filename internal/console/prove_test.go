package console_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/missionopsai/foundry/internal/audit"
)

func TestAnEntryIsProvenAndCheckedElsewhere(t *testing.T) {
	w := node(t)
	v := w.visitor(t)
	_, body := v.get(t, "/console/audit?act=organisation.create")
	path := regexp.MustCompile(`/console/audit/[0-9a-f-]{36}`).FindString(body)
	if path == "" {
		t.Fatal("no entry is listed")
	}
	deadline := time.Now().Add(patience)
	for _, body = v.get(t, path); !strings.Contains(body, "Prove this entry"); _, body = v.get(t, path) {
		if time.Now().After(deadline) {
			t.Fatal("the entry is not in the tree in time")
		}
	}
	if status, body := v.get(t, path+"/proof"); status != http.StatusOK || !strings.Contains(body, "The proof holds.") || !strings.Contains(body, "foundry audit verify --proof") {
		t.Errorf("the proof's page answers %d", status)
	}
	_, body = v.get(t, "/console/audit/log")
	key := strings.ReplaceAll(regexp.MustCompile(`foundry\.audit/[0-9a-f-]{36}(\+|&#43;)[0-9a-f]{8}(\+|&#43;)[A-Za-z0-9/=&#;+]+`).FindString(body), "&#43;", "+")
	status, header, text := v.do(t, http.MethodGet, path+"/proof.json", "")
	if status != http.StatusOK || !strings.Contains(header.Get("Content-Disposition"), "attachment") {
		t.Fatalf("downloading answers %d", status)
	}
	if _, _, err := audit.CheckBundle([]byte(text), []string{key}); err != nil {
		t.Errorf("the download does not verify with %s: %v", key, err)
	}
	forged := strings.Replace(text, `"act": "organisation.create"`, `"act": "organisation.remove"`, 1)
	if _, _, err := audit.CheckBundle([]byte(forged), []string{key}); err == nil || forged == text {
		t.Error("a changed download verifies")
	}
	if status, _ := v.get(t, "/console/audit/01a00000-0000-7000-8000-000000000000/proof"); status != http.StatusNotFound {
		t.Errorf("the proof of nothing answers %d", status)
	}
	if status, _, body := v.do(t, http.MethodPost, "/console/audit/log/verify", ""); status != http.StatusOK || !strings.Contains(body, "Everything is as it was written.") {
		t.Errorf("verifying answers %d", status)
	}
}
