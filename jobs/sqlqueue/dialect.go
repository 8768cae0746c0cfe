package sqlqueue

import (
	"encoding/json"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
)

// kind is a kind of database.
type kind uint8

const (
	sqlite kind = iota + 1
	mysqlDB
	postgres
)

// dialect turns the texts of statements, which are the same for all databases, into one database's own. What stands in
// braces is replaced:
//
//	{job} {error} …    the table of that name, with its prefix
//	{prio}             the priority of j as a number, as the index that finds ready jobs has it
//	{lock} {skip}      FOR UPDATE; the same without waiting for rows that others have locked, or nothing on old servers
//	{byready}          makes sure that the index that finds ready jobs is used
//	{hasprefix}        that the coalesce of j begins with a text of a length (PostgreSQL: with a text)
//	{exactly}          makes sure that = heeds case; MySQL wants the text again
//	{kept} {status}    parameters of record, in a SELECT, where PostgreSQL must be told their types
//	{greatest}         the function that returns the greatest of its arguments
//	{errorid}          what numbers the rows of {error} in the order of their insertion
//	{in}               IN, with an idList as the argument
//	{notin}            NOT IN, with a textList as the argument
//	{keys}             IN, with a keyList as the argument; MySQL only
//	{rows:T,T…}        rows to insert, with values of PostgreSQL's types T, and a rows as the argument
type dialect struct {
	kind       kind
	arrays     bool // lists are parameters (pgx)
	skipLocked bool
	returning  bool // INSERT … RETURNING
	idStep     int64
	maxRows    int // of one statement
	words      *strings.Replacer

	mu    sync.RWMutex // guards texts
	texts map[string]string
}

// idList is an argument for {in}, textList one for {notin}, keyList one for {keys}.
type (
	idList   []int64
	textList []string
	keyList  []string
)

// rows is an argument for {rows}: one slice for each column, an []int64, a []string ("" being NULL) or a [][]byte.
type rows []any

// maxRows is how many rows are inserted by one statement, where that takes a parameter for each value.
const maxRows = 100

// maxArray is the same where it takes one for each column.
const maxArray = 2000

// tables are all names of tables.
var tables = []string{
	"funcmap", "job", "note", "error", "exitstatus",
	"job_record", "job_control", "job_slot", "job_bucket", "job_periodic",
}

func newDialect(k kind, prefix string) *dialect {
	d := &dialect{kind: k, skipLocked: true, returning: true, idStep: 1, maxRows: maxRows, texts: make(map[string]string)}
	d.setWords(prefix)
	return d
}

// setWords is called again when skipLocked has changed.
func (d *dialect) setWords(prefix string) {
	w := make([]string, 0, 64)
	for _, t := range tables {
		w = append(w, "{"+t+"}", prefix+t)
	}
	w = append(w, "{prefix}", prefix)
	skip := "" // see grab.secure
	if d.skipLocked {
		skip = "FOR UPDATE SKIP LOCKED"
	}
	if d.kind == postgres {
		w = append(w, "{kept}", "?::text,?::bigint,?::bigint,?::bigint", "{status}", "?::bigint,?::bigint,?::bigint")
	} else {
		w = append(w, "{kept}", "?,?,?,?", "{status}", "?,?,?")
	}
	switch d.kind {
	case sqlite:
		d.maxRows = 1 // it saves nothing there, and one text is prepared but once
		w = append(w, "{prio}", "ifnull(priority,0)", "{lock}", "", "{skip}", "", "{greatest}", "max", "{errorid}", "rowid",
			"{byready}", "", "{hasprefix}", "substr(j.coalesce,1,?)=?", "{exactly}", "",
			"{in}", "IN (SELECT value FROM json_each(?))", "{notin}", "NOT IN (SELECT value FROM json_each(?))")
	case mysqlDB:
		w = append(w, "{prio}", "j.prio", "{lock}", "FOR UPDATE", "{skip}", skip, "{greatest}", "GREATEST", "{errorid}", "errorid",
			"{byready}", "FORCE INDEX ("+prefix+"job_ready)", "{hasprefix}", "LEFT(CAST(j.coalesce AS BINARY),?)=CAST(? AS BINARY)",
			"{exactly}", " AND CAST(j.coalesce AS BINARY)=CAST(? AS BINARY)")
	case postgres:
		d.maxRows = maxRows
		if d.arrays {
			d.maxRows = maxArray
		}
		w = append(w, "{prio}", "COALESCE(j.priority,0)", "{lock}", "FOR UPDATE", "{skip}", skip, "{greatest}", "GREATEST", "{errorid}", "errorid",
			"{byready}", "", "{hasprefix}", "starts_with(j.coalesce,?)", "{exactly}", "")
		if d.arrays {
			w = append(w, "{in}", "= ANY(?)", "{notin}", "<> ALL(?)")
		}
	}
	d.words = strings.NewReplacer(w...)
}

// length is how long a text is for {hasprefix}.
func (d *dialect) length(s string) int {
	if d.kind == mysqlDB {
		return len(s)
	}
	return utf8.RuneCountInString(s)
}

// bind returns a statement in the database's own language with its arguments.
func (d *dialect) bind(query string, args []any) (string, []any) {
	text := d.text(query)
	if !strings.Contains(text, "{") {
		return text, d.lists(args)
	}
	var b strings.Builder
	out := make([]any, 0, len(args)+16)
	for _, arg := range args {
		i := strings.IndexAny(text, "?{")
		if text[i] == '?' {
			b.WriteString(text[:i+1])
			text = text[i+1:]
			out = append(out, arg)
			continue
		}
		end := i + strings.IndexByte(text[i:], '}') + 1
		b.WriteString(text[:i])
		text = text[end:]
		out = d.spread(&b, out, arg)
	}
	b.WriteString(text)
	if d.kind == postgres {
		return numbered(b.String()), out
	}
	return b.String(), out
}

// text replaces the words, and for a statement that is always the same the rest too. What it returns is kept: there
// are some dozens.
func (d *dialect) text(query string) string {
	d.mu.RLock()
	text, ok := d.texts[query]
	d.mu.RUnlock()
	if ok {
		return text
	}
	text = d.words.Replace(query)
	if i := strings.Index(text, "{rows:"); i >= 0 && (d.arrays || d.maxRows == 1) {
		end := i + strings.IndexByte(text[i:], '}')
		types := strings.Split(text[i+len("{rows:"):end], ",")
		text = text[:i] + d.oneRow(types) + text[end+1:]
	}
	if d.kind == postgres && !strings.Contains(text, "{") {
		text = numbered(text)
	}
	d.mu.Lock()
	d.texts[query] = text
	d.mu.Unlock()
	return text
}

// oneRow is {rows} where its text does not depend on how many there are.
func (d *dialect) oneRow(types []string) string {
	if !d.arrays {
		return "VALUES(?" + strings.Repeat(",?", len(types)-1) + ")"
	}
	return "SELECT * FROM unnest(?::" + strings.Join(types, "[],?::") + "[])"
}

// lists replaces arguments that are lists where the text is always the same.
func (d *dialect) lists(args []any) []any {
	for i, arg := range args {
		switch arg.(type) {
		case idList, textList, rows:
			return d.replaceLists(args, i)
		}
	}
	return args
}

func (d *dialect) replaceLists(args []any, first int) []any {
	out := make([]any, first, len(args)+16)
	copy(out, args)
	for _, arg := range args[first:] {
		switch a := arg.(type) {
		case idList, textList:
			out = append(out, d.list(a))
		case rows:
			out = append(out, d.columns(a)...)
		default:
			out = append(out, arg)
		}
	}
	return out
}

// list is a list as one parameter.
func (d *dialect) list(list any) any {
	if !d.arrays {
		text, _ := json.Marshal(list) // of numbers or texts: cannot fail
		if string(text) == "null" {
			return "[]"
		}
		return string(text)
	}
	if ids, ok := list.(idList); ok {
		return []int64(ids)
	}
	return append([]string{}, list.(textList)...)
}

// columns gives rows as one argument for each column, or, where there is but one row, its values.
func (d *dialect) columns(r rows) []any {
	out := make([]any, len(r))
	for i, col := range r {
		if !d.arrays {
			out[i] = cell(col, 0)
			continue
		}
		if texts, ok := col.([]string); ok {
			col = nullable(texts)
		}
		out[i] = col
	}
	return out
}

// nullable makes NULL of "".
func nullable(texts []string) []*string {
	out := make([]*string, len(texts))
	for i := range texts {
		if texts[i] != "" {
			out[i] = &texts[i]
		}
	}
	return out
}

// cell is one value of a column.
func cell(col any, i int) any {
	switch c := col.(type) {
	case []int64:
		return c[i]
	case []string:
		if c[i] == "" {
			return nil
		}
		return c[i]
	case [][]byte:
		if c[i] == nil {
			return nil
		}
		return c[i]
	}
	panic("sqlqueue: column of another type")
}

// spread writes a list as it is where its length is part of the text.
func (d *dialect) spread(b *strings.Builder, out []any, arg any) []any {
	switch a := arg.(type) {
	case idList: // numbers need no parameters
		b.WriteString("IN (NULL")
		for _, id := range a {
			b.WriteByte(',')
			b.WriteString(strconv.FormatInt(id, 10))
		}
		b.WriteByte(')')
	case textList:
		if len(a) == 0 {
			b.WriteString("IS NOT NULL")
			return out
		}
		b.WriteString("NOT IN (?" + strings.Repeat(",?", len(a)-1) + ")")
		for _, s := range a {
			out = append(out, s)
		}
	case keyList:
		b.WriteString("IN (?" + strings.Repeat(",?", len(a)-1) + ")")
		for _, s := range a {
			out = append(out, s)
		}
	case rows:
		return spreadRows(b, out, a)
	}
	return out
}

func spreadRows(b *strings.Builder, out []any, r rows) []any {
	one := "(?" + strings.Repeat(",?", len(r)-1) + ")"
	b.WriteString("VALUES")
	for i := range r.len() {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(one)
		for _, col := range r {
			out = append(out, cell(col, i))
		}
	}
	return out
}

func (r rows) len() int {
	switch c := r[0].(type) {
	case []int64:
		return len(c)
	case []string:
		return len(c)
	}
	panic("sqlqueue: first column of another type")
}

// numbered replaces ? by $1, $2, and so on.
func numbered(text string) string {
	var b strings.Builder
	for n := 1; ; n++ {
		before, after, ok := strings.Cut(text, "?")
		b.WriteString(before)
		if !ok {
			return b.String()
		}
		b.WriteByte('$')
		b.WriteString(strconv.Itoa(n))
		text = after
	}
}
