"""Texts that would run if a page took them for anything but text. None has a control character: those are refused."""

RUN = "document.title='run'"
"""What each would do, so that a browser can be asked whether it did."""

_ASCII = r"""
<script>RUN</script>
<SCRIPT>RUN</SCRIPT>
<script src=//evil.example/x.js></script>
<scr<script>ipt>RUN</script>
<script/x>RUN</script>
<script type=module>RUN</script>
<img src=x onerror=RUN>
<IMG SRC=x ONERROR=RUN>
<img/src=x/onerror=RUN>
<img src=x onerror=&#100;ocument.title=1>
<svg onload=RUN>
<svg><script>RUN</script></svg>
<svg><animate onbegin=RUN attributeName=x dur=1s>
<svg><a xlink:href='javascript:RUN'><text>x</text></a></svg>
<body onload=RUN>
<iframe src='javascript:RUN'></iframe>
<iframe srcdoc='<script>RUN</script>'></iframe>
<object data='data:text/html,<script>RUN</script>'></object>
<embed src='data:text/html,x'>
<video><source onerror=RUN></video>
<audio src=x onerror=RUN>
<details open ontoggle=RUN>x</details>
<input autofocus onfocus=RUN>
<select autofocus onfocus=RUN>
<textarea autofocus onfocus=RUN>
<marquee onstart=RUN>x</marquee>
<form action='javascript:RUN'><button>x</button></form>
<button formaction='javascript:RUN'>x</button>
<a href='javascript:RUN'>x</a>
<a href=' &#106;avascript:RUN'>x</a>
<math><mtext><script>RUN</script></mtext></math>
<link rel=stylesheet href=//evil.example/x.css>
<style>*{background:url(//evil.example)}</style>
<base href=//evil.example>
<meta http-equiv=refresh content='0;url=javascript:RUN'>
<template><script>RUN</script></template>
<noscript><p title='</noscript><img src=x onerror=RUN>'>
<!--><img src=x onerror=RUN>-->
<![CDATA[<img src=x onerror=RUN>]]>
<?xml version='1.0'?><script>RUN</script>
<x onclick=RUN tabindex=1 autofocus onfocus=RUN>
"><script>RUN</script>
'><script>RUN</script>
" onmouseover=RUN x="
' onfocus=RUN autofocus x='
" autofocus onfocus=RUN "
</title><script>RUN</script>
</textarea><script>RUN</script>
</script><script>RUN</script>
</style><script>RUN</script>
--><script>RUN</script>
]]><script>RUN</script>
`-RUN-`
';RUN;//
\';RUN;//
</dd></dl><img src=x onerror=RUN>
</h1><svg onload=RUN>
{{ 7 * 7 }}
{% for x in range(10**9) %}x{% endfor %}
{{ config }}
${RUN}
#{RUN}
<%= RUN %>
{{ ''.__class__.__mro__ }}
javascript:RUN
data:text/html,<script>RUN</script>
&lt;script&gt;RUN&lt;/script&gt;
%3Cscript%3ERUN%3C/script%3E
\u003cscript\u003eRUN\u003c/script\u003e
"""
_OTHER = (
    "\uff1cscript\uff1eRUN\uff1c/script\uff1e",
    "<\u200bscript>RUN</script>",
    "\u202e<script>RUN</script>",
    "data:\u2028RUN",
    "\ufeff<script>RUN</script>",
)
TEXTS = [text.replace("RUN", RUN) for text in (*_ASCII.strip().splitlines(), *_OTHER)]
