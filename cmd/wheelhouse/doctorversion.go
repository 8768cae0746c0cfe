package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"wheelhouse/store"
	"wheelhouse/store/catalog"
)

// ran notes that a process runs a version of the program.
func (d *doctor) ran(version, what string) {
	if d.versions == nil {
		d.versions = map[string][]string{}
	}
	d.versions[version] = append(d.versions[version], what)
}

// processes takes in what the processes of the installation say of themselves.
func (d *doctor) processes(list []store.Process) {
	for _, p := range list {
		d.ran(p.Version, p.Role+" "+p.Name)
		if p.Schema != catalog.SchemaVersion() {
			d.warn("run the same program everywhere, this one included", "%s %s was made for version %d of the catalog, this program for %d",
				p.Role, p.Name, p.Schema, catalog.SchemaVersion())
		}
	}
}

// sameVersion compares the programs of all processes that were heard of.
func (d *doctor) sameVersion() {
	if len(d.versions) < 2 {
		for version, list := range d.versions {
			d.ok("%d processes run %s", len(list), version)
		}
		return
	}
	var parts []string
	for _, version := range slices.Sorted(maps.Keys(d.versions)) {
		parts = append(parts, fmt.Sprintf("%s: %s", version, strings.Join(d.versions[version], ", ")))
	}
	d.warn("fine while it is being brought up to date; then restart those that are left behind", "processes run different programs: %s", strings.Join(parts, "; "))
}

// schema compares the version of the catalog's tables with what this program makes of them.
func (d *doctor) schema(conn *sqlite.Conn) {
	have := 0
	err := sqlitex.ExecuteTransient(conn, "SELECT version FROM schema_component WHERE name='catalog'", &sqlitex.ExecOptions{ResultFunc: func(st *sqlite.Stmt) error {
		have = st.ColumnInt(0)
		return nil
	}})
	switch want := catalog.SchemaVersion(); {
	case err != nil:
		d.fail("", "version of the catalog: %v", err)
	case have > want:
		d.fail("use the program that the servers run, or a newer one", "the catalog is of version %d; this program knows %d", have, want)
	case have < want:
		d.warn("the next start with this program brings it up to date", "the catalog is of version %d; this program makes %d", have, want)
	default:
		d.ok("the catalog is of version %d", have)
	}
}
