package console_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/missionopsai/foundry/internal/continuity/exercise"
)

// What three real nodes left in a sandbox is handed in, and read by a person.
func TestAnExerciseIsReadInTheConsole(t *testing.T) {
	w := node(t)
	ctx := tab(t, w)
	run(t, ctx, chromedp.EmulateViewport(1280, 900))
	signIn(t, ctx, w)
	run(t, ctx, chromedp.Navigate(w.base+"/console/exercises"))
	says(t, ctx, "No exercise was handed in", "foundry exercise run primary-lost --submit")
	clean(t, ctx, "no exercises")
	b, err := exercise.ReadBundle(filepath.Join("..", "continuity", "exercise", "testdata", "failed"))
	if err != nil {
		t.Fatal(err)
	}
	packed, err := b.Pack()
	if err != nil {
		t.Fatal(err)
	}
	var h exercise.Held
	w.ask200(t, http.MethodPost, "/exercises", exercise.Handed{Bundle: packed, Owner: "head"}, &h)

	run(t, ctx, chromedp.Navigate(w.base+"/console/exercises"))
	says(t, ctx, "Loss of the primary node", "Failed", "Left to be done", "exercise "+h.ID)
	clean(t, ctx, "exercises")
	pictured(t, ctx, "exercises")
	run(t, ctx, chromedp.Navigate(w.base+"/console/exercises/"+h.ID))
	says(t, ctx, "Loss of the primary node", "one is killed: all its processes, at once.", "Measured against the targets", "What was missing, and who does it", "Was not so:")
	clean(t, ctx, "an exercise")
	pictured(t, ctx, "exercise")

	status, header, body := w.visitor(t).do(t, http.MethodGet, "/console/exercises/"+h.ID+"/report", "")
	policy := header.Get("Content-Security-Policy")
	if status != http.StatusOK || !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "sandbox") || strings.Contains(policy, "script-src") {
		t.Errorf("the report answers %d under %q", status, policy)
	}
	if !strings.Contains(body, "Loss of the primary node") || strings.Contains(body, "<script") {
		t.Error("that is no report")
	}
	run(t, ctx, chromedp.Navigate(w.base+"/console/exercises/"+h.ID+"/report"))
	says(t, ctx, "Loss of the primary node")
	pictured(t, ctx, "exercise-report")
	if status, _, _ := w.visitor(t).do(t, http.MethodGet, "/console/exercises/exc-nothing", ""); status != http.StatusNotFound {
		t.Errorf("an exercise that there is not answers %d", status)
	}
}
