package http1

import (
	"net/http"
	"strconv"
)

// statusLines is a table of the status lines of the statuses that have a name.
var statusLines = buildStatusLines()

func buildStatusLines() (t [600]string) {
	for i := range t {
		if text := http.StatusText(i); text != "" {
			t[i] = "HTTP/1.1 " + strconv.Itoa(i) + " " + text + "\r\n"
		}
	}
	return t
}

func appendStatusLine(b []byte, status int) []byte {
	if status < len(statusLines) && statusLines[status] != "" {
		return append(b, statusLines[status]...)
	}
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	return append(b, " \r\n"...) // RFC 9112 §4: the space stays when the reason is empty
}
