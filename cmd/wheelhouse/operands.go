package main

// operands are what commands take besides flags, for their help.
var operands = map[string]string{
	"put": "BUCKET[/PREFIX] FILE...", "get": "BUCKET/NAME [FILE]", "ls": "[BUCKET[/PREFIX]]", "rm": "BUCKET/NAME...",
	"undelete": "BUCKET[/NAME]", "mv": "BUCKET/NAME BUCKET/NAME", "stat": "BUCKET/NAME",
	"bucket create": "BUCKET", "bucket set": "BUCKET", "bucket rename": "BUCKET NEW-NAME", "bucket rm": "BUCKET",
	"object stat": "BUCKET/NAME", "object sign": "BUCKET/NAME", "object repair": "BUCKET/NAME",
	"storage set-mode": "ID MODE", "storage rebuild": "ID", "storage drain": "ID", "storage accept": "ID", "storage promote": "ID", "storage rm": "ID",
	"cluster set-mode": "ID MODE", "cluster drain": "ID", "cluster rm": "ID",
	"operation show": "ID", "operation wait": "ID", "operation problems": "ID", "operation pause": "ID", "operation resume": "ID",
	"operation cancel": "ID", "operation limit": "[NAME VALUE]",
	"class set": "CLASS", "account add": "NAME", "account rm": "ACCOUNT-ID", "account key-add": "ACCOUNT-ID",
	"account key-list": "ACCOUNT-ID", "account key-rm": "KEY", "catalog backup": "[FILE]", "catalog restore": "FILE",
	"config check": "[FILE]", "doctor disk": "DIR",
}
