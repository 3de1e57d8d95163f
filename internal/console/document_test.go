package console

import (
	"reflect"
	"strings"
	"testing"

	"github.com/missionopsai/foundry/docs"
)

func TestADocumentIsTakenApart(t *testing.T) {
	got := document("# Title\n\nOne\ntwo **three**.\n\n## Next\n\n- a `b`\n  c\n- d\n\n1. x\n2. y\n\n```sh\nfoundry up  # <b>\n\nmore\n```\n\n| h | i |\n| --- | --- |\n| 1 | `2` |\n")
	want := []docPart{
		{kind: "p", text: "One two **three**."},
		{kind: "h2", text: "Next"},
		{kind: "ul", items: []string{"a `b` c", "d"}},
		{kind: "ol", items: []string{"x", "y"}},
		{kind: "code", text: "foundry up  # <b>\n\nmore"},
		{kind: "table", rows: [][]string{{"h", "i"}, {"1", "`2`"}}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v, want\n%+v", got, want)
	}
	styled := styles("go **there** by `foot`, see [the map](map.md), 2 * 3")
	if want := []styledText{{"", "go "}, {"strong", "there"}, {"", " by "}, {"code", "foot"}, {"", ", see "}, {"", "the map"}, {"", ", 2 "}, {"", "*"}, {"", " 3"}}; !reflect.DeepEqual(styled, want) {
		t.Errorf("got %+v", styled)
	}
}

func TestEveryDocumentThatComesWithTheProgramIsRead(t *testing.T) {
	for _, s := range sheets {
		text, err := docs.Sheets.ReadFile(s.file)
		if err != nil {
			t.Fatal(err)
		}
		commands := 0
		for _, p := range document(string(text)) {
			if p.kind == "code" {
				commands++
			}
			for _, left := range append(append([]string{p.text}, p.items...), strings.Join(p.items, " ")) {
				if p.kind != "code" && (strings.HasPrefix(left, "#") || strings.HasPrefix(left, "|") || strings.Contains(left, "```")) {
					t.Errorf("%s: %q was not read", s.file, left)
				}
			}
		}
		if commands == 0 {
			t.Errorf("%s shows no command", s.file)
		}
	}
}

func FuzzDocument(f *testing.F) {
	f.Add("# a\n- b\nc\n|d|\n```\n")
	f.Add("**\n`[](\n1. \n- ")
	f.Fuzz(func(t *testing.T, text string) {
		for _, p := range document(text) {
			for _, s := range append(append([]string{p.text}, p.items...), "") {
				if n := len(styles(s)); n > len(s)+1 {
					t.Errorf("%q has %d pieces", s, n)
				}
			}
		}
	})
}
