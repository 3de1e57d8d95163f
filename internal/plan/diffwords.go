package plan

import (
	"fmt"
	"reflect"
	"strings"
	"time"
)

// plain is a value as a sentence shows it.
func plain(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case Date:
		if x.IsZero() {
			return ""
		}
		return x.Format(time.DateOnly)
	case *bool:
		if x == nil {
			return ""
		}
		return fmt.Sprint(*x)
	case Bound:
		return string(x)
	case fmt.Stringer:
		return x.String()
	}
	switch v.Kind() {
	case reflect.String:
		if strings.ContainsAny(v.String(), " \n,") {
			return fmt.Sprintf("%q", short(v.String()))
		}
		return v.String()
	case reflect.Slice:
		return strings.Join(wordsOf(v), ", ")
	}
	return fmt.Sprint(v.Interface())
}

// raw is a word or a list of words as written.
func raw(v reflect.Value) string {
	if v.Kind() == reflect.Slice {
		return strings.Join(wordsOf(v), ", ")
	}
	return fmt.Sprint(v.Interface())
}

func wordsOf(list reflect.Value) []string {
	out := make([]string, list.Len())
	for i := range out {
		out[i] = fmt.Sprint(list.Index(i).Interface())
	}
	return out
}

func quoteWord(w string) string {
	if w == "" {
		return ""
	}
	return fmt.Sprintf("%q", w)
}

func quoteWords(list []string) string {
	out := make([]string, len(list))
	for i, w := range list {
		out[i] = quoteWord(w)
	}
	if len(out) < 2 {
		return strings.Join(out, "")
	}
	return strings.Join(out[:len(out)-1], ", ") + " and " + out[len(out)-1]
}

var labels = map[string]string{
	"rto": "RTO", "rpo": "RPO", "mtd": "MTD", "dns_ttl": "TTL in DNS", "rto_from": "start of the RTO", "tls": "TLS", "to": "recipient",
	"for": "purpose", "of": "scope", "from": "start of the clock", "by": "who does it", "every": "interval", "within": "deadline", "takes": "duration",
	"last": "last time", "at_most": "most", "at_least": "least", "equals": "value", "one_of": "list", "none_of": "exclusion", "admin_mfa": "second factor of administrators",
	"restored_from": "what it is restored from", "approved_by": "approval", "after": "what comes before it", "uses": "what it uses", "needs": "what it needs",
	"source": "sources", "until": "end",
}

// label is a field as a sentence names it.
func label(field string) string {
	if l := labels[field]; l != "" {
		return l
	}
	return strings.ReplaceAll(field, "_", " ")
}

// singular is one of what a list holds.
func singular(field string) string {
	switch {
	case field == "to":
		return "target"
	case field == "tls" || field == "hashing":
		return label(field)
	}
	return strings.TrimSuffix(label(field), "s")
}
