"""The four prompt templates that every gateway knows, in the form an operator writes in a config file.

Changing a word of a text changes what clients get: give the new text a new version, and an id that ends in it.
"""

from __future__ import annotations

from collections.abc import Mapping

from ray.config.kinds import Place
from ray.config.templates import TEMPLATES, TemplateConfig

_DOCUMENT: dict[str, object] = {
    "email.cold_outreach.v1": {
        "version": "v1",
        "family": "email.cold_outreach",
        "lane": "draft",
        "maxTokens": 140,
        "system": (
            "You help people write business e-mail. Answer with the body of the e-mail and nothing else: no subject "
            "line, no comments, no placeholders. Be brief, concrete and useful, and rely only on the facts you are "
            "given."
        ),
        "input": (
            "Write the body of a short first e-mail to someone who does not know us yet.\n"
            "Role of the reader: {{ recipientRole }}\n"
            "Topic: {{ topic }}\n"
            "What we offer: {{ valueProp }}\n"
            "About our company: {{ companyContext }}"
        ),
        "variables": ["recipientRole", "topic", "valueProp", "companyContext"],
    },
    "email.follow_up.v1": {
        "version": "v1",
        "family": "email.follow_up",
        "lane": "draft",
        "maxTokens": 120,
        "system": (
            "You help people write follow-up e-mail. Answer with the body of the e-mail and nothing else: no subject "
            "line, no comments, no placeholders. Be polite, get to the point quickly, and rely only on the facts you "
            "are given."
        ),
        "input": (
            "Write the body of a short follow-up to an e-mail that has not been answered.\n"
            "Role of the reader: {{ recipientRole }}\n"
            "What we wrote about: {{ previousTopic }}\n"
            "Why an answer is worthwhile now: {{ reasonToReply }}"
        ),
        "variables": ["recipientRole", "previousTopic", "reasonToReply"],
    },
    "email.reply_classification.v1": {
        "version": "v1",
        "family": "email.reply_classification",
        "lane": "short",
        "maxTokens": 80,
        "responseFormat": {"type": "json_object"},
        "system": (
            "You sort replies that arrive by e-mail. Answer with one compact JSON object and nothing else. It has "
            "exactly three keys, each with a short text: sentiment, intent, urgency."
        ),
        "input": 'Sort this reply: "{{ replyText }}"',
        "variables": ["replyText"],
    },
    "email.reply_rewrite.v1": {
        "version": "v1",
        "family": "email.reply_rewrite",
        "lane": "short",
        "maxTokens": 120,
        "system": (
            "You rewrite e-mail replies. Answer with the new body as plain text and nothing else. Be warm, clear and "
            "brief, and keep the facts of the original."
        ),
        "input": (
            "Rewrite the reply below.\n"
            "What the new version should achieve: {{ rewriteGoal }}\n"
            'The reply as it is: "{{ replyText }}"'
        ),
        "variables": ["rewriteGoal", "replyText"],
    },
}

BUILT_IN_TEMPLATES: Mapping[str, TemplateConfig] = TEMPLATES.read(_DOCUMENT, Place("the built-in templates", "/"))
