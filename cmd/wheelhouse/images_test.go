package main

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"wheelhouse/gearman"
	"wheelhouse/gearman/gearmantest"
)

// photo is a PNG of w×h pixels; another n gives another image.
func photo(t testing.TB, w, h, n int) []byte {
	t.Helper()
	img := image.NewRGBA(image.Rect(0, 0, w, h))
	for y := range h {
		for x := range w {
			img.SetRGBA(x, y, color.RGBA{uint8(x * n), uint8(y), uint8(n), 255})
		}
	}
	var b bytes.Buffer
	if err := png.Encode(&b, img); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func sendTo(t testing.TB, method, url string, body []byte) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Error(err)
		return 0, ""
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp.StatusCode, string(got)
}

func sizeOf(text string) string {
	c, format, err := image.DecodeConfig(strings.NewReader(text))
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%s %d×%d", format, c.Width, c.Height)
}

// testImages uses photos in other sizes, wherever they are made.
func testImages(t *testing.T, server string) {
	if status, text := sendTo(t, "PUT", server+"/b", nil); status != 201 {
		t.Fatal(status, text)
	}
	for path, body := range map[string][]byte{"/b/photo.png": photo(t, 300, 200, 1), "/b/text.png": []byte("hello"), "/b/page.html": []byte("<p>")} {
		if status, text := sendTo(t, "PUT", server+path, body); status != 201 {
			t.Fatal(status, text)
		}
	}
	for _, tt := range []struct{ path, want string }{
		{"/b/photo.png", "png 300×200"},
		{"/b/photo.png?w=150", "png 150×100"},
		{"/b/photo.png?w=50&h=50&fit=cover&format=jpeg&quality=60", "jpeg 50×50"},
		{"/b/photo.png?v=2", "png 300×200"},
	} {
		if status, text := sendTo(t, "GET", server+tt.path, nil); status != 200 || sizeOf(text) != tt.want {
			t.Errorf("%s: %d, %s; want %s", tt.path, status, sizeOf(text), tt.want)
		}
	}
	for _, tt := range []struct {
		path   string
		status int
		want   string
	}{
		{"/b/photo.png?w=-1", 400, "w="},
		{"/b/text.png?w=10", 422, "not an image"},
		{"/b/page.html?w=10", 200, "<p>"},
	} {
		if status, text := sendTo(t, "GET", server+tt.path, nil); status != tt.status || !strings.Contains(text, tt.want) {
			t.Errorf("%s: %d, %q; want %d, %q", tt.path, status, text, tt.status, tt.want)
		}
	}
	// All the forms of a photo go with it.
	listed := func() string {
		_, text := sendTo(t, "GET", server+"/.derived?list", nil)
		return text
	}
	if text := listed(); strings.Count(text, "w150-") != 1 {
		t.Errorf("kept: %s", text)
	}
	if status, text := sendTo(t, "DELETE", server+"/b/photo.png", nil); status != 204 {
		t.Error(status, text)
	}
	eventually(t, "the photo's other forms are gone", func() bool { return !strings.Contains(listed(), "w150-") })
}

// imageArgs are those of an up that has 8 s, half the grace time, to make images on a loaded machine. Those of what is deleted stay for that time.
func imageArgs(t *testing.T, more ...string) []string {
	return upArgs(t.TempDir(), append(more, "--set", "catalog.grace=16s")...)
}

func TestImagesInThisProcess(t *testing.T) {
	t.Parallel()
	testImages(t, start(t, imageArgs(t)...).ready["http"])
}

func TestImagesByGearmanWorkers(t *testing.T) {
	t.Parallel()
	jobServer := gearmantest.StartDebian(t)
	start(t, "gearman", "worker", "-h", jobServer, "images")
	p := start(t, imageArgs(t, "--set", "images.servers="+jobServer)...)
	testImages(t, p.ready["http"])

	// A thousand requests at once for a size that is not there yet: it is made once.
	server := p.ready["http"]
	if status, text := sendTo(t, "PUT", server+"/b/big.png", photo(t, 800, 600, 3)); status != 201 {
		t.Fatal(status, text)
	}
	before := metric(t, server, "wheelhouse_dispatcher_derived_total")
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			if status, text := sendTo(t, "GET", server+"/b/big.png?w=77", nil); status != 200 || !strings.HasPrefix(sizeOf(text), "png 77×") {
				t.Errorf("%d %s", status, sizeOf(text))
			}
		})
	}
	wg.Wait()
	if n := metric(t, server, "wheelhouse_dispatcher_derived_total") - before; n != 1 {
		t.Errorf("made %v times", n)
	}
	lines, err := gearman.Admin(t.Context(), jobServer, nil, "status")
	if err != nil || len(lines) != 1 || !strings.HasPrefix(lines[0], "wheelhouse.image\t0\t0\t") {
		t.Errorf("status = %q, %v", lines, err)
	}
}

// metric reads one metric that has no labels.
func metric(t *testing.T, server, name string) float64 {
	t.Helper()
	_, text := sendTo(t, "GET", server+"/metrics", nil)
	for line := range strings.Lines(text) {
		var v float64
		if n, _ := fmt.Sscanf(line, name+" %g", &v); n == 1 {
			return v
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}
