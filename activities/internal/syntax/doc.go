// Package syntax asks PostgreSQL's own parser, compiled to WebAssembly, about SQL: what an expression of a definition
// reads, and which names in the text of a schema object have to change when tables and schemas get other names.
//
// A renamed statement is written by changing its text at the tokens that hold the names, so that everything else stays
// as pg_dump wrote it. The parser keeps no positions of most names; so each name that may change is first replaced by a
// mark that carries the number of its token:
//
//	create table shop.a (s shop.state)      create table "~2!"."~4!" (s "~7!"."~9!")
//
// The tree of the marked text says what each mark is part of: a table, a type, a function, a column. The walk over it
// changes the names in the tree, and notes the same changes for the tokens. In the end the new text is parsed, and its
// tree must be the changed one: an error of the marks or of the rules for them is an error, and never another meaning.
//
// Columns that are qualified by a table's name follow its new one. Where that name would mean something else in the query,
// or the old one stands for a whole row, the table keeps its old name there as an alias.
//
// What no tree shows stays as it is: bodies of functions in quotes, SQL in constants, arguments of triggers. Mentions
// finds the names in them.
//
// The grammar is that of PostgreSQL 17; what pg_dump 18 writes beyond it about tables is spelled otherwise for the
// parser (spellings). A statement that the parser does not know is an error if a name in it may have to change, and
// otherwise comes back as it is. The parser is compiled when it is first needed, which takes more than a second;
// importing the package costs a millisecond. All functions may be called concurrently; they take turns.
package syntax
