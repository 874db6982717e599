#!/usr/bin/env python3
"""Writes tests/golden/templates/*.jsonl: what jinja2 renders in the environment that transformers compiles templates in.

    python3 scripts/golden_template.py [SHARED_TEMPLATES_FOLDER]                          needs transformers, jinja2

    expressions.jsonl    {"t": template, "c": context, "o": output, null where jinja2 raises}: the language, piece by piece
    conversations.json   [{"name", "messages", "tools", ...}]: what templates are rendered over, other keys as variables
    rendered.jsonl       {"f": file, "n": conversation, "o": output or null}: the *.jinja files beside it
    shared.jsonl         likewise, for the templates of models in the folder given, which are not part of the project;
                         "crc" is zlib's CRC-32 of the output instead of "o"

strftime_now tells noon of 1 July 2024. A template that raises in Python has to fail in tinylm too.
"""
import datetime
import glob
import json
import os
import sys
import zlib

import transformers.utils.chat_template_utils as chat

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "golden", "templates")


class Noon(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 1, 12, 0, 0)


chat.datetime = Noon

CONTEXT = {
    "n": 7, "f": 2.5, "neg": -3, "zero": 0, "yes": True, "no": False, "nil": None, "s": "Hello World", "e": "", "u": "h\u00e9llo \u4f60\u597d \U0001f600 stra\u00dfe",
    "ws": " \t two  words \n", "l": [3, 1, 2], "ls": ["b", "A", "c"], "el": [], "d": {"b": 1, "a": 2, "C": [1, {"x": None}]}, "ed": {},
    "mixed": [1, "a", None, True, 2.0, [1], {"k": "v"}], "objs": [{"n": "x", "v": 2, "t": {"z": 1}}, {"n": "Y", "v": 1}, {"n": "x", "v": 3, "t": {"z": 0}}],
    "html": "<a href=\"x\">T&'s</a>", "multi": "one\ntwo\n\nthree", "num": " 42 ", "dot": {"items": 1, "get": 2, "name": "n", "0": "zero"},
    "nested": [[1, 2], [3, [4, 5]], []], "big": 1234567890123, "small": 1e-7, "large": 1e22, "tenth": 0.1,
}

# Expressions alone; each is printed over CONTEXT.
EXPRESSIONS = r"""
1 | 1.0 | 1e5 | 1.5e-10 | 1e16 | 123456789012345680.0 | 0.1+0.2 | 1_000 | 0x1F | 0b101 | 0o17 | 1e300*1e10 | -1e300*1e10 | 5e-324
true | True | false | none | None | 'a' | "b" | 'a' "b" 'c' | 'it\'s' | "a\nb\t\\" | '\x41\u00e9\U0001F600' | '\q' | 'é\é' | '\101'
[] | [1] | [1,2,] | () | (1,) | (1,2) | {} | {'a':1} | {'a':1,} | {1:2,'b':[1,2]} | [[],{},()] | {'a':{'b':('c',)}} | ((1)) | [none, true, 1.5, 'x']
1+2 | 1-2 | 2*3 | 7/2 | 7//2 | -7//2 | 7%3 | -7%3 | 7%-3 | 2**10 | 2**-1 | 2**0.5 | 7.5//2 | -7.5//2 | 7.5%2 | -7.5%2 | 1/0 | 1//0 | 1%0 | 1.0/0 | 0**0
-n | +n | - 3 | -(-3) | --3 | 2**3**2 | -2**2 | 1+2*3-4/2 | (1+2)*3 | 10-3-2 | 'a'+'b' | 'a'*3 | 3*'a' | 'a'*-1 | [1]+[2] | [1,2]*2 | (1,)+(2,) | (1,)*2
'a'+1 | 1+'a' | [1]+(2,) | none+1 | true+true | true*3 | 1~2 | 'a'~none~true | l~d | 1.5~'x' | missing~'x' | 1+1.0 | 5/5
1<2 | 1<2<3 | 1<3<2 | 3>2>1 | 1==1.0 | true==1 | 'a'<'b' | 'a'<1 | [1,2]<[1,3] | [1]<[1,2] | (1,2)<(1,3) | 1!=2 | 1<=1 | 2>=3 | none==none | none<1 | {}=={} | {'a':1}=={'a':1.0} | [1]==(1,) | 'a'=='a'<'b'
1 in [1,2] | 3 not in [1,2] | 'a' in 'abc' | '' in 'abc' | 1 in 'abc' | 'a' in {'a':1} | 'x' in none | 1 in 1 | [1] in [[1]] | [] in {} | n in l | 'b' in ls and 'z' not in ls | missing in [1] | 'a' in missing | missing in 'abc'
true and false | 1 and 2 | 0 and 2 | 0 or 'x' | '' or none | not 1 | not not 1 | not missing | missing or 'd' | 1 or 1/0 | 0 and 1/0 | not 1 == 2 | 1 if 0 else 2 | 1 if 1 | 1 if 0 | (1 if 0) is defined | 'a' if n > 5 else 'b' if n > 3 else 'c'
missing | missing.x | missing['x'] | missing() | missing + 1 | -missing | missing == missing | missing == none | missing is none | missing|length | missing|list | missing|default('d') | missing|default | missing|upper | missing[1:] | missing < 1 | missing|join(',') | [missing] | {'a':missing} | missing|tojson | nil.x | nil.x.y | n.x | s.nope | l.nope | nil[0]
s[0] | s[-1] | s[99] | s[1:3] | s[::-1] | s[::2] | s[-3:] | s[:-3] | s[5:2] | s[10:0:-3] | s['x'] | s[1.0] | s[true] | u[1] | u[6:8] | u[::-1] | l[0] | l[-1] | l[5] | l[1:] | l[::-1] | l[:2] | l[-2:] | l[::0] | l['a':] | (1,2,3)[1:] | l[none:2] | range(5)[2] | range(10)[2:8:2] | range(5)[::-1]|list | l[1:2,3] | nested[l[1:2][0]] | nested[l[0:0]] | d[s[0:0]] | ('ab'|safe)|list | l[l[1]:]
d.a | d['a'] | d.zzz | d['zzz'] | d.C[1].x | d.C.1.x | d.C[1]['x'] is none | d.items | d['items'] is callable | dot.items | dot['items'] | dot.get | dot.name | dot['name'] | dot['0'] | dot.0 | objs[0].t.z | objs.0.n | d.get('a') | d.get('q') | d.get('q', 5) | d.keys()|list | d.values()|list | d.items()|list | d.keys() | d.values() | d.items() | d|length | d.get([]) | d.copy() | 'a' in d.keys() | 2 in d.values() | d.pop('a') | d.update({}) | d.clear | d.setdefault is defined | l.append(1) | l.append | l.pop is defined | l.index(1) | l.index(9) | l.count(1) | (1,1).count(1) | l.copy() | s.__class__ | s.__class__.__mro__ | d._x | ''.__len__ is defined
s.upper() | s.lower() | s.title() | s.capitalize() | s.swapcase() | s.strip('Hd') | ws.strip() | ws.lstrip() | ws.rstrip() | ws.split() | ws.split(' ') | s.split('o') | s.split('o', 1) | s.rsplit('o', 1) | s.split(maxsplit=1) | s.split('') | ws.split(none, 1) | ws.rsplit(none, 1) | '  a b  c '.split(maxsplit=1) | '  a b  c '.rsplit(maxsplit=1) | multi.splitlines() | multi.splitlines(true) | 'a\r\nb\rc\x0bd\x85e'.splitlines() | s.replace('o','0') | s.replace('o','0',1) | 'abc'.replace('','-') | 'abc'.replace('','-',2) | s.startswith('He') | s.startswith(('x','H')) | s.startswith('o', 4) | s.endswith('ld') | s.endswith(('x','y')) | s.endswith('o', 0, 5) | s.startswith(1) | s.startswith(['H'])
s.find('o') | s.rfind('o') | s.find('z') | s.index('z') | s.rindex('o') | s.count('l') | s.count('') | s.find('o', 5) | s.find('o', -3) | s.partition('o') | s.rpartition('o') | s.partition('z') | s.rpartition('z') | ','.join(['a','b']) | ','.join([1]) | ''.join('abc') | ', '.join(d) | 'x'.join(()) | 'a'.zfill(3) | '-5'.zfill(4) | '+5'.zfill(1) | 'ab'.center(5) | 'ab'.center(5,'*') | 'abc'.center(6,'*') | 'ab'.ljust(4,'.') | 'ab'.rjust(4)~'|' | 'a\tb'.expandtabs() | 'a\tb'.expandtabs(4) | 'abc'.removeprefix('a') | 'abc'.removesuffix('bc') | 'abc'.removeprefix('x')
'12'.isdigit() | '²'.isdigit() | '²'.isdecimal() | '½'.isnumeric() | ''.isdigit() | 'ab'.isalpha() | 'é'.isalpha() | 'a1'.isalnum() | ' \t'.isspace() | 'AB'.isupper() | 'Ab'.isupper() | 'ab1'.islower() | '1'.islower() | 'Ab Cd'.istitle() | 'a_1'.isidentifier() | '1a'.isidentifier() | 'é'.isascii() | 'a'.isprintable() | '\n'.isprintable() | u.upper() | u.title() | 'ŉ ß ﬁ ǆ'.title() | 'ŉ ß ﬁ ǆ'.capitalize() | 'ΑΣ ΑΣΑ Σ'.lower() | 'İI'.lower() | u.isupper() | 'ǅ'.istitle() | u|length | u|upper | u.encode is defined | 'Straße ΑΣ'.casefold() | u.casefold()
'{} {}'.format(1,'a') | '{0}{1}{0}'.format('a','b') | '{x}'.format(x=1) | '{:>5}|{:<5}|{:^5}'.format('a','b','c') | '{:*^7}'.format('ab') | '{:05d}'.format(42) | '{:+}'.format(3) | '{:.2f}'.format(3.14159) | '{:,}'.format(1234567) | '{:_}'.format(1234567) | '{:,.2f}'.format(1234567.891) | '{:x} {:X} {:#x} {:b} {:o}'.format(255,255,255,5,8) | '{:e}'.format(12345.678) | '{:g}'.format(0.00001) | '{:%}'.format(0.25) | '{!r}'.format('a') | '{a[b]} {a.b}'.format(a={'b':1}) | '{{}}'.format() | '{}'.format() | '{0} {}'.format(1,2) | '{:d}'.format('a') | '{:{w}}|'.format('a', w=4) | '{:10}|'.format(5) | '{:10}|'.format(true) | '{}'.format(none) | '{:5}'.format(none) | '{:.3}'.format('abcdef') | '{:.3}'.format(2.5) | '{:010.3f}'.format(-3.14159) | '{:=+6d}'.format(3) | '{'.format() | '}'.format()
'%s %s' % (1,'a') | '%d' % 3.7 | '%5.2f|' % 3.14159 | '%-5s|' % 'a' | '%05d' % 42 | '%x %X %o' % (255,255,8) | '%%' % () | '%s' % [1,2] | '%s %s' % 1 | '%s' % (1,2) | '%(a)s' % {'a':1} | '%r' % 'a' | '%e' % 1234.5 | '%g' % 0.1 | '%i' % true | '%d' % 'a' | '%s' % missing | '%+d' % 5 | '%#x' % 255 | 'a' % [] | 'a' % 1 | '%s' % none | '%c' % 'x'
n is odd | n is even | n is divisibleby 7 | n is divisibleby(3) | n is number | f is number | f is float | f is integer | n is integer | yes is integer | yes is boolean | yes is number | yes is true | no is false | 1 is true | s is string | s is sequence | s is iterable | l is sequence | l is iterable | l is mapping | d is mapping | d is iterable | d is sequence | nil is none | missing is defined | s is defined | missing is undefined | missing is iterable | missing is sequence | missing is callable | n is iterable | range is callable | s.upper is callable | 'a' is lower | 'A' is upper | 1 is lower | 1 is eq 1 | 1 is equalto(1) | 1 is ne 2 | 1 is lt 2 | 2 is gt 1 | 1 is le 1 | 1 is ge 2 | 1 is sameas 1 | none is sameas none | yes is sameas true | 1 is in [1,2] | 'a' is in 'abc' | 3 is not in [1] | 'upper' is filter | 'zzz' is filter | 'odd' is test | n is not odd | not n is odd | n is odd and n > 3 | n is nosuchtest | 's' is odd | html|e is escaped | html is escaped | 1 is defined is true | range(3) is sequence | l|map('string') is sequence | l|map('string') is iterable | n is divisibleby | 2.0 is even | 3.0 is odd
s|upper | s|lower | s|title | 'foo-bar (baz) [q]'|title | s|capitalize | ws|trim | s|trim('Hd') | s|length | l|length | d|count | n|length | s|reverse | l|reverse|list | l|reverse | l|first | l|last | e|first | el|first is undefined | el|last is defined | d|first | d|last | d|reverse|list | s|first | n|first | l|list | s|list | d|list | n|list | n|string|length | l|string | 3.0|string | '42'|int | ' 42 '|int | '42.9'|int | 'x'|int | 'x'|int(5) | '0x1A'|int(base=16) | '0b11'|int(0,2) | '1_0'|int | 3.9|int | -3.9|int | nil|int | l|int(9) | '1e3'|int | 'inf'|int | '1.5'|float | 'x'|float | 'x'|float(1.5) | 3|float | '1e5'|float | ' 1.5 '|float | nil|float | 'nan'|float | -3|abs | -3.5|abs | 's'|abs | 2.5|round | 3.5|round | -2.5|round | 2.675|round(2) | 42|round | 1234.567|round(-2) | 1250|round(-2) | 1350|round(-2) | 42.55|round(1,'floor') | 42.51|round(1,'ceil') | 42|round(0,'ceil') | 1.5|round(0,'up') | 1e20|round | true|round
s|replace('o','0') | s|replace('o','0',1) | 12321|replace(2,'x') | s|replace('','-') | nil|default('x') | nil|default('x',true) | e|default('x',true) | e|d('x') | missing|d('x')|upper | zero|default(5,boolean=true) | l|join | l|join(',') | objs|join(',', attribute='n') | objs|join('-','v') | s|join('.') | mixed|join('|') | n|join | d|join | l|sort | l|sort(reverse=true) | ls|sort | ls|sort(case_sensitive=true) | objs|sort(attribute='v')|map(attribute='v')|list | objs|sort(attribute='n,v')|map(attribute='v')|list | mixed|sort | [none,none]|sort | d|sort | s|sort | l|min | l|max | ls|min | ls|max(case_sensitive=true) | el|min is undefined | objs|max(attribute='v') | mixed|max | l|sum | el|sum | ls|sum | objs|sum(attribute='v') | l|sum(start=10) | nested|sum(start=[]) | [1.5,2]|sum
[1,1,2,'a','A']|unique|list | objs|unique(attribute='n')|list | [[1]]|unique|list | objs|map(attribute='n')|list | objs|map(attribute='t.z')|list | objs|map(attribute='t.z',default='?')|list | objs|map(attribute='q')|list | ls|map('upper')|list | ls|map('upper')|join | [' a ','b']|map('trim')|list | l|map('string')|join('+') | ls|map('replace','b','X')|list | l|map('nosuch')|list | l|map|list | n|map('upper')|list | nil|map('upper')|list | missing|map('x')|list | ls|map('default','x')|list | nested|map('length')|list | nested|map('first')|list | objs|map('attr','n')|list | l|select|list | mixed|select|list | l|select('odd')|list | l|select('gt',1)|list | l|reject('odd')|list | mixed|select('string')|list | mixed|reject('none')|list | mixed|select('mapping')|first | objs|selectattr('t')|list|length | objs|selectattr('v','gt',1)|map(attribute='v')|list | objs|selectattr('n','equalto','x')|list|length | objs|selectattr('t.z')|list|length | objs|rejectattr('t','defined')|list | objs|rejectattr('n','in',['x'])|list | l|selectattr|list | l|select('nosuch')|list | objs|selectattr('n','==','Y')|list | l|select('divisibleby',3)|list
l|batch(2)|list | l|batch(2,'x')|list | range(7)|batch(3)|list | l|slice(2)|list | range(7)|slice(3)|list | range(7)|slice(3,'x')|list | l|slice(0)|list | objs|groupby('n')|list | objs|groupby('n')|map(attribute='grouper')|list | (objs|groupby('n'))[0].list|length | objs|groupby('n',case_sensitive=true)|map('first')|list | d|dictsort | d|dictsort(true) | {'b':2,'a':3}|dictsort(by='value') | {'b':2,'a':3}|dictsort(reverse=true) | d|dictsort(by='x') | d|items|list | missing|items|list | l|items|list | nil|items|list | d|tojson | d|tojson(indent=2) | mixed|tojson | s|tojson | u|tojson | u|tojson(ensure_ascii=true) | html|tojson | '\x00\x1f\x7f"\\/\b\f'|tojson | '\x7f'|tojson(true) | 1.0|tojson | 1e22|tojson | 1e-7|tojson | none|tojson | true|tojson | (1,2)|tojson | {1:2,none:3,true:4,1.5:6}|tojson | {(1,2):3}|tojson | {'b':1,'a':2}|tojson(sort_keys=true) | d|tojson(separators=(',',':')) | [1,[2,{}],[]]|tojson(indent=4) | {}|tojson(indent=2) | [1]|tojson(indent='\t') | [1]|tojson(indent=0) | [1]|tojson(indent=-1) | range(3)|tojson | l|map('string')|tojson | missing|tojson | 'inf'|float|tojson | {'b':1,2:3}|tojson(sort_keys=true) | [1,2]|tojson(separators=['; ','=']) | d|tojson|safe | html|safe|tojson
html|e | html|escape | html|safe | html|forceescape | html|e|e | html|e|forceescape | '<'|safe + '<' | '<' + '<'|safe | '<'|e ~ '<' | ('<'|safe)*2 | html|urlencode | 'a b/c?d'|urlencode | {'a b':'c/d','e':1}|urlencode | 'é'|urlencode | [('a',1)]|urlencode | {'a':1,'b':none,'c':'x"y'}|xmlattr | ('<b>'|safe).upper() | ['<b>'|safe] | multi|indent | multi|indent(2) | multi|indent(2,true) | multi|indent(2,false,true) | multi|indent('>> ') | 'a\n'|indent | ''|indent(2,true) | n|indent | s|truncate(5) | s|truncate(8,true) | 'foo bar baz qux'|truncate(9) | 'foo bar baz qux'|truncate(9,true) | 'foo bar baz qux'|truncate(11) | 'foo bar baz qux'|truncate(11,false,'...',0) | s|truncate(1) | s|wordcount | 'a_b c-d é'|wordcount | s|center(20) | 'x'|center(4)~'|' | '%s-%s'|format(1,2) | '%(a)s'|format(a=1) | '%s'|format(1,a=2) | 1|filesizeformat | 1000|filesizeformat | 123456789|filesizeformat | 123456789|filesizeformat(true) | 500|filesizeformat | '1e6'|filesizeformat | d|pprint | s|pprint | d|attr('a') | d|attr('items') is callable | s|attr('nope') | 'x'|nosuchfilter | s|upper|lower|title | (s|upper)[0] | -n|abs | n|float|int | s | l | d | mixed | nested | big | small | large | tenth | f | yes | nil | html | objs
range(3) | range(3)|list | range(1,4)|list | range(5,0,-2)|list | range(0)|list | range(3)|length | range(1000000) | range() | range('a') | range(1,2,0) | 2 in range(3) | dict(a=1,b=2) | dict([('a',1)]) | dict({'a':1},b=2) | dict(1) | namespace(a=1).a | namespace(a=1) | namespace({'x':2}).x | namespace().q is defined | namespace(_a=1) | cycler('a','b').next() | cycler() | joiner()() | strftime_now('%Y-%m-%d') | strftime_now('%d %b %Y %H:%M:%S %A %B %j %%') | strftime_now('%z|%Z|x') | strftime_now('') | strftime_now(1) | raise_exception('x') | n() | 'a'() | d.a() | 1 .x | (1).x | s.upper | loop | super() | caller() | varargs
'%r' % ['a',"it's",'"','\'"','\n\t\\','\x00é\u200b\U0001f600\xa0'] | [u] | ["it's"] | ['a"b'] | ['\'"'] | ['\u2028'] | [1.0,1e100,1e-5,1e16,123456.789,0.0,-0.0] | {none:1,true:2} | {'a':1,'a':2} | {1:'a',1.0:'b',true:'c'} | {[]:1} | {(1,):2}[(1,)] | (1,)[0] | [1,2,3][1] | 'abc'[1] | {'a':1}.a | [1,[2]][1][0] | ('a','b')|join | not(true) | (not true) | 1 if true else 2 | [1 if true else 2, 3] | {'a': 1 if no else 2} | 1 < 2 and 2 < 3 | n==7 and s|length==11 | n>5 if yes else no | 'a' in ls|map('lower') | 2 in l|select('even')|list | l|length > 2 | -l|length | -l[0] | l[0]**2 | 'a' ~ 1 + 2 ~ 'b' | 2 * 'ab' ~ 'c' | s|length * 2 | 1 + s|length | s ~ '!' | s[0] ~ s[-1]
,1 | 1, | 1,2 | 1,2,3|list | 1 2 | (1 | [1 | {1:2 | 1) | a b | 'abc | 1 + | * 2 | not | x. | x.1a | x[ | x[] | f(a=1,a=2) | f(a=1,2) | f(*l) | range(*[1,4])|list | dict(**{'a':1}) | dict(**d)|length | dict(*[1,2]) | f(**d,1) | x|| | x| | x is | 1 ?? 2 | a @ b | $x | `x` | x ! y | x != | 1 === 2 | {a} | {'a' 1} | {,} | [,] | (,) | 1 if | if | else | in | is | and | 007 | 1__0 | 0x | 1e | .5 | 5. | 1.e5 | é | été is undefined | namespace.x | true.x | none.x | 1.x | 'x'.y | "a" 'b'|upper | {'a':1}['a'] | {'a':1}.b is defined
[3,1,2]|sort|first | [0.5,1,true]|sum | [true,false]|sort | ['a','B']|sort(true) | 'ba'|sort|join | {'x':1}|items|list|first|last | [[1,2],[3,4]]|map('last')|list | [1,2,3,4]|select('even')|map('string')|join('/') | [{'a':{'b':1}}]|map(attribute='a.b')|first | [[1,2]]|map(attribute=1)|list | [[1,2]]|map(attribute='1')|list | objs|map(attribute='n')|unique|sort|join(',') | objs|selectattr('t','defined')|map(attribute='t')|map(attribute='z')|sum | l|map('abs')|max | ls|map('lower')|sort(reverse=true)|join | 'a,b,c'.split(',')|map('upper')|list|tojson | d.items()|map('first')|list | d.items()|list|last | d.items()|sort|first | (d.items()|list)[0][0] | d.keys()|sort|join(',') | s.split()|map('length')|list | s.split()[0].lower()[1:3] | s.replace('World','').strip()|length | (s~e) == s | 'x' * n | [none]*2 | l + [4] | l + el == l | (l + [4])|last | l|list == l | l|sort == [1,2,3] | not l | not el | el or [1] | ed or 'empty' | d and 'full' | 0.0 or 'z' | '0' and 'ok' | none or false | '' is none | 0 == false | 1 == true | '1' == 1 | 1.0 == 1 | 'a' != 'b' | none != false | 1 is boolean
""".strip("\n")

# Whole templates over CONTEXT, one a line; \n in them is a newline.
TEMPLATES = r"""
{% if n > 5 %}big{% elif n > 3 %}mid{% else %}small{% endif %}
{% if missing %}a{% elif missing is defined %}b{% else %}c{% endif %}
{% if n %}a{% endif %}b{% if not n %}c{% endif %}
{% for x in l %}{{ x }},{% endfor %}
{% for x in el %}{{ x }}{% else %}none{% endfor %}
{% for x in l if x > 1 %}{{ loop.index }}/{{ loop.length }}:{{ x }} {% else %}no{% endfor %}
{% for x in l if x > 9 %}{{ x }}{% else %}no{% endfor %}
{% for x in l %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.revindex0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.depth }}{{ loop.depth0 }};{% endfor %}
{% for x in l %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }}{% endfor %}
{% for x in l %}{{ loop.previtem is defined }}{{ loop.nextitem is defined }}{% endfor %}
{% for x in l %}{{ loop.cycle('a','b') }}{% endfor %}
{% for x in [1,1,2,2,1] %}{{ loop.changed(x) }}{% endfor %}
{% for x in [1,1,2] %}{% if loop.changed(x, 'k') %}{{ x }}{% endif %}{% endfor %}
{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}
{% for k, v in d|items %}{{ k }}{{ loop.last }}{% endfor %}
{% for k, v in d|dictsort %}{{ k }}{% endfor %}
{% for k in d %}{{ k }}{% endfor %}
{% for c in s %}{{ c }}.{% endfor %}
{% for c in u %}{{ c }}.{% endfor %}
{% for a, b in [[1,2],[3,4]] %}{{ a }}-{{ b }} {% endfor %}
{% for a, b in [[1,2,3]] %}{{ a }}{% endfor %}
{% for a, b in [[1]] %}{{ a }}{% endfor %}
{% for a, (b, c) in [[1,[2,3]]] %}{{ a }}{{ b }}{{ c }}{% endfor %}
{% for (a, b) in [[1,2]] %}{{ a }}{{ b }}{% endfor %}
{% for x, in [[1]] %}{{ x }}{% endfor %}
{% for a in n %}{% endfor %}
{% for a in nil %}{% endfor %}
{% for a in missing %}x{% else %}y{% endfor %}
{% for a in missing.x %}x{% endfor %}
{% for x in l %}{% if x == 1 %}{% continue %}{% endif %}{{ x }}{% endfor %}
{% for x in l %}{% if x == 1 %}{% break %}{% endif %}{{ x }}{% endfor %}
{% for x in l %}{% break %}{% else %}e{% endfor %}
{% for x in l %}{% continue %}{% else %}e{% endfor %}
{% for x in l %}{% for y in ls %}{{ x }}{{ y }}{{ loop.index }}{% if loop.first %}{% break %}{% endif %}{% endfor %}{{ loop.index }} {% endfor %}
{% for x in range(3) %}{% set o = loop %}{% for y in range(2) %}{{ o.index }}{{ loop.index }} {% endfor %}{% endfor %}
{% break %}
{% for x in l %}{% macro m() %}{% break %}{% endmacro %}{% endfor %}
{% for x in nested recursive %}{% if x is iterable and x is not string %}[{{ loop(x) }}]{% else %}{{ x }}@{{ loop.depth }}{% endif %}{% endfor %}
{% for x in l %}{{ loop(x) }}{% endfor %}
{% for x in l %}{{ loop }}{% endfor %}
{% for x in l|map('string') %}{{ loop.index }}/{{ loop.length }}{{ x }}{{ loop.last }}{% endfor %}
{% for x in l|map('string') %}{{ loop.revindex }}{{ loop.nextitem }}{% endfor %}
{% for x in l|reverse %}{{ x }}{{ loop.length }}{% endfor %}
{% for loop in l %}{% endfor %}
{% for x in l %}{% set loop = 1 %}{% endfor %}
{% set loop = 1 %}{{ loop }}
{% set m = l|map('string') %}{{ m|list }}{{ m|list }}
{% set m = l|map('nosuch') %}ok
{% if false %}{{ 1|nosuch }}{% endif %}ok
{% if true %}{{ 1|nosuch }}{% endif %}ok
{{ 1|nosuch if false else 2 }}
{% for x in [] %}{{ 1|nosuch }}{% endfor %}ok
{% macro m() %}{{ 1|nosuch }}{% endmacro %}ok
{% set x = 1 %}{{ x }}
{% set x, y = 1, 2 %}{{ x }}{{ y }}
{% set x, y = 1 %}
{% set (x, y) = [1, 2] %}{{ x }}{{ y }}
{% set x = 1, 2 %}{{ x }}
{% set x %}a{{ n }}b{% endset %}[{{ x }}]
{% set x | upper %}a{{ n }}b{% endset %}[{{ x }}]
{% set x | replace('a', 'b') | upper %}aa{% endset %}{{ x }}
{% set x | default(n) %}{% endset %}{{ x }}
{% set ns = namespace(a=1) %}{% set ns.a = 2 %}{% set ns.b = 3 %}{{ ns.a }}{{ ns.b }}{{ ns.c }}|
{% set ns = namespace(a=1) %}{% for x in l %}{% set ns.a = ns.a + x %}{% endfor %}{{ ns.a }}
{% set ns = namespace() %}{% set ns.a, ns.b = 1, 2 %}{{ ns.a }}{{ ns.b }}
{% set ns = namespace() %}{% set ns.x %}block{% endset %}{{ ns.x }}
{% set d.a = 1 %}
{% set missing.a = 1 %}
{% set ns = namespace() %}{% set ns._x = 1 %}
{% set ns = namespace(items=5, get=1) %}{{ ns.items }}{{ ns.get }}{{ ns['items'] }}
{% set x = 1 %}{% for y in l %}{% set x = x + y %}{{ x }} {% endfor %}{{ x }}
{% set x = 1 %}{% if n %}{% set x = 2 %}{% endif %}{{ x }}
{% if no %}{% set n = 2 %}{% endif %}{{ n }}
{% if yes %}{% set n = 2 %}{% endif %}{{ n }}
{% for x in l %}{% if loop.first %}{% set n = 99 %}{% endif %}{{ n }} {% endfor %}{{ n }}
{% for x in l %}{{ n }}{% set n = 1 %}{{ n }} {% endfor %}
{% for x in l %}{{ n }}{% endfor %}{% set n = 1 %}{{ n }}
{% macro m() %}{{ n }}{% endmacro %}{{ m() }}{% set n = 1 %}{{ m() }}
{{ n }}{% macro m() %}{{ n }}{% endmacro %}{{ m() }}{% set n = 1 %}{{ m() }}
{{ n }}{% set n = n + 1 %}{{ n }}
{% set n = n + 1 %}{{ n }}
{% set q = q %}{{ q is defined }}
{% if q is not defined %}{% set q = false %}{% endif %}{{ q }}
{% if n is not defined %}{% set n = false %}{% endif %}{{ n }}
{% for i in range(2) %}{% set v = i %}{% endfor %}{{ v is defined }}
{% for i in range(2) %}{% if v is defined %}{{ v }}{% endif %}{% set v = i %}{% endfor %}
{% for n in l %}{{ n }}{% endfor %}{{ n }}
{% for x in x %}{% endfor %}ok
{% for l in l %}{{ l }}{% endfor %}{{ l }}
{% macro m(a, b=2, c='x') %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(1) }} {{ m(1, 3) }} {{ m(1, c=4) }} {{ m(b=1, a=2) }} {{ m() }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(b=2) }}
{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, a=2) }}
{% macro m(a) %}{{ a is defined }}{{ a.x }}{% endmacro %}{{ m() }}
{% macro m(a, b=a) %}{{ a }}{{ b }}{% endmacro %}{{ m(1) }}
{% macro m(a=b, b=1) %}{{ a }}{{ b }}{% endmacro %}{{ m() }}
{% macro m(a=n) %}{{ a }}{% endmacro %}{{ m() }}
{% macro m(a=1, b) %}{% endmacro %}
{% macro m(a, a) %}{% endmacro %}
{% macro m() %}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m(1, 2, x=3) }}
{% macro m(a) %}{{ a }}{{ varargs|join('+') }}{% endmacro %}{{ m(1, 2, 3) }}
{% macro m() %}{{ kwargs.x }}{% endmacro %}{{ m(x=3) }}{{ m() }}
{% macro m(x) %}[{{ caller() }}{{ x }}]{% endmacro %}{% call m(1) %}body{{ n }}{% endcall %}
{% macro m(x) %}{% for i in x %}{{ caller(i, loop.index) }}{% endfor %}{% endmacro %}{% call(a, b) m(l) %}{{ a }}:{{ b }} {% endcall %}
{% macro m() %}x{% endmacro %}{% call m() %}y{% endcall %}
{% macro m() %}{{ caller() }}{% endmacro %}{{ m() }}
{% macro m() %}{{ caller is defined }}{% endmacro %}{{ m() }}
{% macro m(caller) %}{{ caller() }}{% endmacro %}{{ m() }}
{% macro m(caller=none) %}{{ caller }}{% endmacro %}{{ m() }}
{% call range(3) %}{% endcall %}
{% call n %}{% endcall %}
{% macro f(x) %}{{ x }}{% if x > 0 %}{{ f(x - 1) }}{% endif %}{% endmacro %}{{ f(3) }}
{% macro f(x) %}{% set n = x %}{{ n }}{% endmacro %}{{ f(1) }}{{ n }}
{% macro a() %}{{ b() }}{% endmacro %}{% macro b() %}B{% endmacro %}{{ a() }}
{% macro m(a, b=1) %}{% endmacro %}{{ m.name }}{{ m.arguments }}{{ m.catch_kwargs }}{{ m.caller }}{{ m }}
{% macro m() %} x {% endmacro %}[{{ m() }}]{{ m()|trim }}{{ m()|length }}
{% for x in l %}{% macro m() %}{{ x }}{% endmacro %}{{ m() }}{% endfor %}
{% macro m() %}{% for x in l %}{{ loop.index }}{% endfor %}{% endmacro %}{{ m() }}
{% for x in l %}{% macro m() %}{{ loop.index }}{% endmacro %}{{ m() }}{% endfor %}
{% filter upper %}a{{ n }}b{% endfilter %}
{% filter upper|replace('A', 'x') %}aba{% endfilter %}
{% filter indent(2) %}a\nb{% endfilter %}
{% filter replace(s, 'x') %}Hello World{% set s = 'o' %}{% endfilter %}
{% with a = 1, b = 2 %}{{ a }}{{ b }}{% endwith %}{{ a }}
{% with n = 1, m = n %}{{ n }}{{ m }}{% endwith %}{{ n }}
{% with %}{% set n = 1 %}{{ n }}{% endwith %}{{ n }}
{% with a, b = 1, 2 %}{{ a }}{% endwith %}
{% raw %}{{ x }}{% if %}{# c #}{% endraw %}
{%- raw -%}  a  {%- endraw -%}  b
a{# comment #}b{#- c -#} d
a  {#- c -#}  b
{# unclosed
{% raw %}unclosed
{% if 1 %}
{% endif %}
{% else %}
{% for x in l %}{% endif %}
{% nosuchtag %}
{% if 1 %}{% endfor %}
{{ 1
{% if 1
{{ }}
{% %}
{% set %}
{% set x %}
{% set 1 = 2 %}
{% set 'a' = 2 %}
{% set true = 2 %}
{% set x.y.z = 2 %}
{% for 1 in l %}{% endfor %}
{% for x l %}{% endfor %}
{% macro 1() %}{% endmacro %}
{% macro m %}{% endmacro %}
{% include 'x' %}
{% extends 'x' %}
{% import 'x' as y %}
{% from 'x' import y %}
{% block a %}x{{ n }}{% endblock %}
{% block a %}x{% endblock a %}{% block a %}y{% endblock %}
{% set q = 1 %}{% block a %}{{ q }}{{ n }}{% endblock %}
{% for x in l %}{% block a %}{{ x }}{% endblock %}{% endfor %}
{% for x in l %}{% block a scoped %}{{ x }}{% endblock %}{% endfor %}
{% autoescape false %}{{ html }}{% set n = 1 %}{% endautoescape %}{{ n }}
{% print n, s %}
{% generation %}a{{ n }}{% set n = 1 %}{{ n }}{% endgeneration %}{{ n }}
{% for x in l %}{% generation %}{% break %}{% endgeneration %}{% endfor %}
{% for x in l %}{%- generation -%} {{ x }} {%- endgeneration -%} {% endfor %}
  {% if 1 %}\n  a\n  {% endif %}\n  b
a\n  {%- if 1 %}\n  b\n  {%- endif %}\n  c
a\n  {% if 1 -%}\n  b\n  {% endif -%}\n  c
a\n  {%+ if 1 %}\n  b\n  {%+ endif %}\n  c
a\n  {% if 1 +%}\n  b\n  {% endif +%}\n  c
a\n  {{ n }}\n  b\n
a\n  {{- n -}}\n  b\n
a {{+ n }} b
a {{ n +}} b
  {{ n }}\n{% if 1 %}\n{{ n }}\n{% endif %}\n\n
a\n  {# c #}\n  b
a\n  {#- c #}\n  b
a\n  {# c -#}\n  b
a\n  {#+ c #}\n  b
a\n  {# c +#}\n  b
a\n {# c #} {# d #}\nb
{% if 1 %}  {% if 1 %}  x{% endif %}{% endif %}
{% if 1 %}\n  {% if 1 %}\n  x\n  {% endif %}\n{% endif %}\n
x {% if 1 %}\n  y{% endif %}
  {% raw %}\n  a\n  {% endraw %}\n  b
  {% raw -%}\n  a\n  {%- endraw %}\n  b
  {% raw %}\n  a\n  {% endraw +%}\n  b
a\n\n
a\n
\n
a\r\nb\rc\r\n
{{ 'a\\nb' }}\n{{ "x" }}
{% set x = "a\nb" %}{{ x }}
{{ 'a' }}{{ 'b' -}}   c {{- 'd' }}
{{-1}}|{{- 1 }}|{{ -1 }}
{{ {'a': {'b': 1}} }}|{{ {'a': {}}.a }}|{{{}}}
{{ "%}" }}{{ '}}' }}{% set x = '%}' %}{{ x }}
{{ '{{' }}{{ '{%' }}{% if '#}' %}a{% endif %}
{ { n } } {n} {% raw %}{{{% endraw %} #} }} %}
{{ n }}{{ n }} {{n}}{{n|string}}{{n +1}}{{n-1}}
{%if n%}a{%endif%}{%for x in l%}{{x}}{%endfor%}
{% if n: %}a{% endif %}
{% if n %}a{% else: %}b{% endif %}
{{ raise_exception('boom') }}
{% if no %}{{ raise_exception('boom') }}{% endif %}fine
{{ raise_exception() }}
{{ strftime_now('%d %B %Y') }}
{% set j = joiner(', ') %}{% for x in l %}{{ j() }}{{ x }}{% endfor %}
{% set c = cycler('a', 'b') %}{{ c.next() }}{{ c.next() }}{{ c.next() }}{{ c.current }}{{ c.reset() }}{{ c.current }}
{% for x in range(3) if x is odd %}{{ x }}{{ loop.last }}{% endfor %}
{% for x in l if loop.index > 1 %}{{ x }}{% endfor %}
{% for x in l|sort if x > 1 recursive %}{{ x }}{% endfor %}
{% for m in objs|selectattr('t', 'defined') %}{{ m.n }}{{ loop.index }}{% endfor %}
{% for g in objs|groupby('n') %}{{ g.grouper }}{{ g.list|length }}{{ g[0] }}{% endfor %}
{% for k, g in objs|groupby('v') %}{{ k }}{{ g|length }}{% endfor %}
{% for row in range(5)|batch(2, '-') %}{{ row|join }}/{% endfor %}
{% set f = s.upper %}{{ f() }}
{% set x = [] %}{% set x = x + [1] %}{% set x = x + [2] %}{{ x }}
{% set x = dict(a=1, **{'b': 2}) %}{{ x }}
{% set a = b = 1 %}
{% set x = 1 if n == 7 else 2 %}{{ x }}
{% set x = y.z %}
{% set x = y %}{{ x }}|{{ x is defined }}
{% if l is iterable and (l is not mapping and l is not string) %}y{% endif %}
{% if d.zzz is defined and d.zzz.x %}y{% else %}n{% endif %}
{% if d.zzz.x is defined %}y{% endif %}
{% if objs[0].t.z == 1 and objs[-1]['n'] == 'x' %}y{% endif %}
{{ objs[1:]|map(attribute='n')|join(', ') }}{{ objs[::-1][0].v }}
{{ (objs|first).n }}{{ (objs|last)['v'] }}{{ objs|length - 1 }}
{% for o in objs[:2] %}{{ o.n }}{% if not loop.last %}, {% endif %}{% endfor %}
{% for o in objs %}{{ objs[loop.index0 - 1].n }}{{ objs[loop.index0 + 1].n if not loop.last }}{% endfor %}
{{ s ~ ' ' ~ n ~ ' ' ~ f ~ ' ' ~ nil ~ ' ' ~ yes ~ ' ' ~ l ~ ' ' ~ d }}
{{ d }}{{ l }}{{ mixed }}{{ (1, 'a') }}
"""


def conversations():
    tool = {"type": "function", "function": {"name": "get_weather", "description": "Current weather at a \"place\"\u2026", "parameters": {"type": "object", "properties": {
        "city": {"type": "string", "description": "The city & its country"}, "unit": {"type": "string", "enum": ["C", "F"], "default": "C"},
        "days": {"type": ["integer", "null"], "description": "How many"}, "tags": {"type": "array", "items": {"type": "string"}},
        "where": {"type": "object", "properties": {"lat": {"type": "number"}}, "required": ["lat"]}}, "required": ["city"]},
        "return": {"type": "string", "description": "A sentence."}}}
    plain_tool = {"type": "function", "function": {"name": "now", "description": "The time.", "parameters": {"type": "object", "properties": {}}}}
    user, system = {"role": "user", "content": "What is 2+2?"}, {"role": "system", "content": "You are terse. /no_think"}
    answer = {"role": "assistant", "content": "4."}
    call = {"role": "assistant", "content": "", "tool_calls": [{"id": "abcdef123", "type": "function", "function": {"name": "get_weather", "arguments": {"city": "K\u00f6ln \"am\" Rhein", "days": 2, "x": [1.5, None, True]}}}]}
    call_text = {"role": "assistant", "content": "Let me see.", "tool_calls": [{"id": "abcdef123", "type": "function", "function": {"name": "now", "arguments": "{\"a\": 1}"}}]}
    two_calls = {"role": "assistant", "content": None, "tool_calls": [call["tool_calls"][0], {"id": "xyzxyz789", "type": "function", "function": {"name": "now", "arguments": {}}}]}
    result = {"role": "tool", "tool_call_id": "abcdef123", "name": "get_weather", "content": "{\"t\": 21}"}
    result2 = {"role": "tool", "tool_call_id": "xyzxyz789", "name": "now", "content": "noon"}
    think = {"role": "assistant", "reasoning_content": "Two and two.\nIs four.", "content": "4."}
    think_inline = {"role": "assistant", "content": "<think>\nhm\n</think>\n\nFour <|x|>."}
    odd = {"role": "user", "content": "  <|im_end|>\n{{ x }} {% y %} \u00e9\u4f60\u597d\U0001f600\u200b\u0001\"\\'\t\r\n</think> <think>  "}
    parts = {"role": "user", "content": [{"type": "text", "text": "Look"}, {"type": "image"}, {"type": "text", "text": " here."}]}
    more = {"role": "user", "content": "And 3+3?"}
    out = [("plain", [user], {}), ("system", [system, user], {}), ("turns", [user, answer, more], {}), ("system_turns", [system, user, answer, more, answer, user], {}),
           ("tools", [user], {"tools": [tool, plain_tool]}), ("tools_system", [system, user, answer, more], {"tools": [tool]}),
           ("call", [user, call, result], {"tools": [tool]}), ("call_answer", [system, user, call, result, answer, more], {"tools": [tool, plain_tool]}),
           ("call_text", [user, call_text, result2, answer, user], {"tools": [plain_tool]}), ("two_calls", [user, two_calls, result, result2], {"tools": [tool, plain_tool]}),
           ("two_calls_only", [user, two_calls], {"tools": [tool]}), ("call_no_tools", [user, call, result, answer, more], {}),
           ("reasoning", [user, think, more], {}), ("reasoning_last", [user, think], {"add_generation_prompt": False}), ("think_inline", [user, think_inline, more], {}),
           ("thinking_on", [system, user], {"enable_thinking": True, "thinking": True}), ("thinking_off", [user, think, more], {"enable_thinking": False, "thinking": False}),
           ("thinking_field", [user, {"role": "assistant", "thinking": "hm", "content": "4."}, more], {"reasoning_effort": "high"}),
           ("thinking_call", [user, {**call, "thinking": "hm"}, result], {"tools": [tool]}), ("no_generation", [system, user, answer], {"add_generation_prompt": False}),
           ("odd", [{"role": "system", "content": odd["content"]}, odd, {"role": "assistant", "content": odd["content"]}, odd], {}),
           ("missing_content", [user, {"role": "assistant"}, more], {}), ("null_content", [user, {"role": "assistant", "content": None}, more], {}), ("empty_content", [{"role": "user", "content": ""}, {"role": "assistant", "content": ""}, user], {}),
           ("no_messages", [], {}), ("missing_role", [{"content": "x"}], {}), ("other_role", [{"role": "developer", "content": "Be kind."}, user], {}), ("wrong_order", [user, user, answer, answer], {}),
           ("assistant_first", [answer, user], {}), ("system_later", [user, answer, system, user], {}), ("parts", [parts], {}), ("tool_first", [result, user], {}),
           ("builtin", [user], {"builtin_tools": ["browser", "python"], "tools": [tool], "documents": [{"title": "T", "text": "Body", "doc_id": 1}], "date_string": "1 Jan 2025"}),
           ("prefix", [user, {**answer, "prefix": True}], {"add_generation_prompt": False}), ("empty_tools", [user], {"tools": []}), ("custom_tools", [user], {"custom_tools": [tool], "tools_in_user_message": False})]
    return [{"name": name, "messages": messages, "tools": None, "documents": None, "add_generation_prompt": True, "bos_token": "<s>", "eos_token": "</s>", **extra} for name, messages, extra in out]


def render(template, context):
    try:
        text = chat._compile_jinja_template(template).render(**json.loads(json.dumps(context)))
        text.encode()
        return text
    except Exception:  # any: jinja2 lets through what Python raises
        return None


def write_lines(name, lines):
    with open(os.path.join(HERE, name), "w", encoding="utf-8") as f:
        for line in lines:
            f.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")


def expression_cases():
    for line in EXPRESSIONS.split("\n"):
        for expression in line.split(" | "):
            yield "{{ " + expression.strip() + " }}"
    for template in TEMPLATES.strip("\n").split("\n"):
        yield template.replace("\\\\", "\0").replace("\\n", "\n").replace("\\r", "\r").replace("\0", "\\")


def main():
    shared = sys.argv[1] if len(sys.argv) > 1 else None
    lines = [{"c": CONTEXT}]
    for template in expression_cases():
        output = render(template, CONTEXT)
        if output is None or " at 0x" not in output:  # an address is nothing to compare
            lines.append({"t": template, "o": output})
    write_lines("expressions.jsonl", lines)
    talks = conversations()
    with open(os.path.join(HERE, "conversations.json"), "w", encoding="utf-8") as f:
        json.dump(talks, f, ensure_ascii=False, indent=1)
        f.write("\n")
    for folder, name in ((HERE, "rendered.jsonl"), (shared, "shared.jsonl")):
        if folder is None:
            continue
        lines = []
        for path in sorted(glob.glob(os.path.join(folder, "*.jinja"))):
            with open(path, encoding="utf-8", newline="") as f:
                template = f.read()
            for talk in talks:
                output = render(template, {k: v for k, v in talk.items() if k != "name"})
                line = {"f": os.path.basename(path), "n": talk["name"]}
                if folder == HERE or output is None:
                    line["o"] = output
                else:
                    line["crc"] = zlib.crc32(output.encode())
                lines.append(line)
        write_lines(name, lines)


if __name__ == "__main__":
    main()
