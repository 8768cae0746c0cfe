package balancer

import "testing"

func TestMIMEType(t *testing.T) {
	changes := map[string]string{"gif": "", "shtml": "text/html", "css": "text/x-css"}
	s := &Settings{MIME: changes}
	for name, want := range map[string]string{
		"a.html": "text/html", "a.HTML": "text/html", "dir.png/a": "text/plain", "a": "text/plain", "a.": "text/plain", "a.unknown": "text/plain",
		"a.gif": "text/plain", "b/a.shtml": "text/html", "a.css": "text/x-css", "a.tar.gz": "application/gzip",
	} {
		if got, _ := s.MIMEType(name); got != want {
			t.Errorf("MIMEType(%q) = %q; want %q", name, got, want)
		}
	}
	m := MIMETypes(changes)
	if _, ok := m["gif"]; ok || m["shtml"] != "text/html" || m["css"] != "text/x-css" || m["png"] != "image/png" {
		t.Errorf("MIMETypes = %v", m)
	}
	if MIMETypes(nil)["gif"] != "image/gif" {
		t.Error("a change has changed the table")
	}
}
