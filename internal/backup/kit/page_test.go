package kit

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

func somePage(k *Key) Page {
	return Page{Installation: "Example <Ltd>", Set: k.Set(), Created: made, Threshold: 2, Shares: 3, Holder: "Ada <script>", Holders: []string{"Ada", "Grace"},
		Contacts: []Contact{{Name: "Edith", Role: "decides", Phone: "+358 1"}}, Places: []string{"offsite: /mnt/b"}, Foundry: "1.2.3", Packages: []string{"pgbackrest"},
		Briefing: "Ask for the key of room 7."}
}

func TestThePageOfAShareHoldsItInThreeForms(t *testing.T) {
	k, shares := newShares(t, 2, 3)
	page, err := ShareHTML(somePage(k), shares[1])
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range shares[1].Words() {
		if !bytes.Contains(page, []byte("<li>"+w+"</li>")) {
			t.Errorf("the word %s is not on the page", w)
		}
	}
	for _, want := range []string{shares[1].Text(), "<svg", "Share <b>2</b> of <b>3</b>", k.Set().String(), "Example &lt;Ltd&gt;", "@media print"} {
		if !bytes.Contains(page, []byte(want)) {
			t.Errorf("%q is not on the page", want)
		}
	}
	for i, s := range shares {
		if i != 1 && (bytes.Contains(page, []byte(s.Text())) || bytes.Contains(page, []byte(s.Text()[40:60]))) {
			t.Errorf("share %d is on the page of share 2", i+1)
		}
	}
}

var outside = regexp.MustCompile(`(?i)<script|javascript:|src=|href=|@import|url\(|\son[a-z]+=|http-equiv="refresh`)

func TestPagesRunNothingAndLoadNothing(t *testing.T) {
	k, shares := newShares(t, 2, 3)
	one, err := ShareHTML(somePage(k), shares[0])
	if err != nil {
		t.Fatal(err)
	}
	two, err := BriefingHTML(somePage(k))
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range [][]byte{one, two} {
		if found := outside.FindAll(page, -1); found != nil {
			t.Errorf("the page has %q", found)
		}
		for _, address := range regexp.MustCompile(`https?://[^"]*`).FindAllString(string(page), -1) {
			if address != "http://www.w3.org/2000/svg" { // a name, which nothing loads
				t.Errorf("the page names %s", address)
			}
		}
	}
}

func TestTheTextOfASharePageIsReadAsTheShare(t *testing.T) {
	k, shares := newShares(t, 2, 3)
	page, err := ShareText(somePage(k), shares[2])
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseShare(string(page)); err != nil || got != shares[2] {
		t.Errorf("%s, %v\n%s", got, err, page)
	}
	for _, line := range strings.Split(string(page), "\n") {
		if len(line) > 92 {
			t.Errorf("a line is too long for a page: %q", line)
		}
	}
	_, words, _ := strings.Cut(string(page), "enough):")
	words, _, _ = strings.Cut(words, "The same")
	if got, err := ParseShare(words); err != nil || got != shares[2] {
		t.Errorf("the words of the page: %s, %v", got, err)
	}
}

func TestTheBriefingSaysWhatIsNeededAndHoldsNoSecret(t *testing.T) {
	k, shares := newShares(t, 2, 3)
	for _, render := range []func(Page) ([]byte, error){BriefingText, BriefingHTML} {
		page, err := render(somePage(k))
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"Grace", "Edith", "/mnt/b", "pgbackrest", FileName(k.Set()), "--dry-run", "--activate", "room 7", "1.2.3"} {
			if !bytes.Contains(page, []byte(want)) {
				t.Errorf("%q is missing", want)
			}
		}
		for _, s := range shares {
			if bytes.Contains(page, []byte(s.Text())) {
				t.Error("a share is in the briefing")
			}
		}
	}
}
